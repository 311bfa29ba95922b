"""Numbers given as text, in overrides, files and tables: plain decimal ones are taken, all else is named."""

import pytest

import kanpinn as package
from kanpinn.errors import UserError
from kanpinn.io.table import coordinates, read_columns, read_table
from kanpinn.options import decimal
from kanpinn.run import preflight
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate

ODD = [
    *("1_0", "١", "１", "0x10", "1,5", "nan", "inf", "-infinity", "1e400", "", " ", "1d5", "−1", "1 0", "1e", "."),
    *("1.5.2", "True", "1j", "1\x00"),
]


@pytest.mark.parametrize("text", ODD)
def test_what_is_no_decimal_number_is_none(text):
    assert decimal(text) != decimal(text)


@pytest.mark.parametrize("text", ["0", "-0.5", "+3", ".5", "5.", "1e-3", "1E+06", "007", "1e-400"])
def test_what_is_one_has_the_value_python_gives_it(text):
    assert decimal(text) == float(text)


def message(*overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        preflight.check(validate(compose(overrides)[0]).setup)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("problem.kx='0.4'", "problem.kx='0.4': expected a finite number; a number in quotes is text"),
        ("schedule.steps='10'", "schedule.steps='10': expected a whole number or a list of whole numbers; a number in"),
        ("backbone.width=['5','5']", "backbone.width=['5','5']: expected a list of whole numbers; a number in quotes"),
        ("sampler.interior=[5,'7']", "sampler.interior=[5,'7']: expected a list of whole numbers; a number in quotes"),
        (
            "weighting.terms={interior: '0.4'}",
            "weighting.terms.interior='0.4': expected a finite number or a list of finite numbers; a number in quotes",
        ),
        ("backbone.width=[five]", "backbone.width=[five]: expected a list of whole numbers."),
        ("seed=0x10", "seed=0x10: expected a whole number."),
    ],
)
def test_a_number_in_quotes_is_called_text(override, told, folder):
    assert message(override).startswith(told)


def test_a_number_in_quotes_in_a_file(folder):
    (folder / "conf/problem").mkdir(parents=True)
    (folder / "conf/problem/mine.yaml").write_text('name: poisson\nkx: "0.4"\n')
    assert message("problem=mine").startswith("problem.kx='0.4': expected a finite number; a number in quotes is text")


# --- weights


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "weighting.terms={interior: -1}",
            "weighting.terms.interior=-1.0: expected a number of at least 0 or a list",
        ),
        ("weighting.terms={interior: nan}", "weighting.terms.interior=nan: expected a finite number or a list of"),
        ("weighting.terms={interor: 1}", "weighting.terms=interor: unknown. Did you mean 'interior'?"),
        ("weighting.base={interor: 1}", "weighting.base=interor: unknown. Did you mean 'interior'?"),
        ("weighting.terms={interior: 0, boundary: 0}", "weighting.terms: every term of the loss has weight 0"),
        ("weighting.terms={interior: {a: 1}}", "weighting.terms.interior={a:1}: expected a finite number or a list of"),
        ("weighting.terms=[1]", "weighting.terms=[1]: expected a mapping"),
        ("weighting.terms=3", "weighting.terms=3: expected a mapping"),
        ("output={figurs: false}", "output.figurs=false: unknown key. Did you mean 'output.figures'?"),
        ("backbone.embedding={knd: none}", "backbone.embedding.knd=none: unknown key. Did you mean"),
    ],
)
def test_a_mapping_on_the_command_line_is_checked_entry_by_entry(override, told, folder):
    assert message(override).startswith(told)


def test_a_weight_of_nothing_is_told(folder):
    soft = ["problem.conditions=soft"]
    flags = preflight.check(validate(compose([*soft, "weighting.terms={interior: 0}"])[0]).setup)
    assert [flag.kind for flag in flags] == ["term"]
    assert "weighting.terms.interior=0" in flags[0].message
    assert preflight.check(validate(compose([*soft, "weighting.terms={interior: 2, boundary: 1e3}"])[0]).setup) == []


@pytest.mark.parametrize(
    ("overrides", "circle"),
    [
        (["problem.kx=${problem.ky}", "problem.ky=${problem.kx}"], {"problem.kx", "problem.ky"}),
        (["problem.kx=${.kx}"], {"problem.kx"}),
        (
            ["seed=${threads}", "threads=${output.points}", "output.points=${seed}"],
            {"threads", "output.points", "seed"},
        ),
    ],
)
def test_a_circle_of_interpolations_names_its_keys(overrides, circle, folder):
    keys = message(*overrides).partition("circle: ")[2].rstrip(".").split(" → ")
    assert keys[0] == keys[-1]
    assert len(keys) == len(circle) + 1
    assert set(keys) == circle


# --- tables


@pytest.fixture
def points(tmp_path):
    def read(content: str | bytes) -> list[list[float]]:
        file = tmp_path / "p.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return coordinates(read_table(file), ("x", "t"), file).tolist()

    return read


@pytest.mark.parametrize("cell", [text for text in ODD if text.strip()])
def test_a_cell_that_is_no_number_is_named_by_line_and_column(cell, points):
    with pytest.raises(UserError, match=r"line 3: t=.*expected a finite number"):
        points(f'x,t\n1,2\n3,"{cell}"\n')


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x;t\n1;2\n", ["x;t, are separated by ';'; expected commas"]),
        ("x\tt\n1\t2\n", ["are separated by '\\t'; expected commas"]),
        ("1,2\n3,4\n", ["line 1 holds numbers; expected the names of the columns"]),
        ("x,x,t\n1,1,2\n", ["'x' is there twice"]),
        ("X,T\n1,2\n", ["'x' is missing; found X, T"]),
        ("x,t\n1,\n", ["line 2: t=''"]),
        ("x,t\n1\n", ["line 2 has 1 cells; expected 2"]),
        ("x,t\n1,2,3\n", ["line 2 has 3 cells; expected 2"]),
        ("x,t\n1,5,2,5\n", ["line 2 has 4 cells"]),
        ("x,t\n", ["no points"]),
        ("", ["no points"]),
        ("x,t\n1,2\n".encode("utf-16"), ["not a text file"]),
        (b"\xff\xfe\x00", ["not a text file"]),
        ("x,\x1b[2J\n1,2\n", ["'t' is missing"]),
    ],
)
def test_a_table_that_is_none_is_told_in_one_line(content, words, points):
    with pytest.raises(UserError) as raised:
        points(content)
    for word in words:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfx,t\r\n1,2\r\n",
        " x , t ,\n 1 , 2 ,\n",
        't,"x"\n"2","1"\n\n',
        "t,note,x\n2.0,a;b,1e0\n",
        "x,t\r1,2\r",
    ],
)
def test_what_spreadsheets_write_is_read(content, points):
    assert points(content) == [[1, 2]]


def test_commas_at_the_ends_of_lines_make_no_column(tmp_path):
    file = tmp_path / "d.csv"
    file.write_text("x,u,,\n1,2,,\n3,4,,\n")
    assert {name: values.tolist() for name, values in read_columns(file, "data").items()} == {"x": [1, 3], "u": [2, 4]}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["plot", "r", "--times", "0_1"], "0_1: expected a finite number"),
        (["plot", "r", "--times", "1,nan"], "nan: expected"),
        (["plot", "r", "--dpi", "٣٠٠"], "expected a whole number"),
        (["tune", "--trials", "1_0"], "1_0: expected a whole number"),
        (["tune", "--objective", "seconds", "--error", "nan"], "nan: expected"),
        (["tune", "--seed", "9" * 30], "expected a whole number"),
    ],
)
def test_numbers_of_options_are_decimal_too(argv, words, kanpinn):
    result = kanpinn(*argv)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert words in result.err


@pytest.mark.parametrize("text", ["0_1", "nan", "٠", "0x1"])
def test_a_plane_stands_at_a_decimal_number(text):
    with pytest.raises(UserError, match="plane x"):
        package.Box(x=(-1, 1)).piece(f"x={text}")
