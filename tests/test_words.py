"""What is said of mistakes in names, equations as text and files of data: the fault itself, and its place."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from kanpinn.cli.main import main
from kanpinn.errors import UserError, caution, heard
from kanpinn.geometry import Box
from kanpinn.pde.text_problem import text_problem
from kanpinn.settings.compose import compose
from kanpinn.settings.config import observed, read_data

PLATE: dict[str, Any] = {
    "domain": {"x": [0, 1], "y": [0, 1]},
    "k": 2.0,
    "equations": {"heat": "laplace(u) = k"},
    "conditions": {"edge": {"on": "boundary", "equation": "u = 0"}},
}


def named(kind: str, name: str) -> dict[str, Any]:
    """The plate with an unknown, a coefficient or a coordinate of a name."""
    if kind == "coefficient":
        return {**PLATE, name: 1.0}
    if kind == "coordinate":
        return {**PLATE, "domain": {"x": [0, 1], name: [0, 1]}}
    edge = {"edge": {"on": "boundary", "equation": f"{name} = 0"}}
    return {**PLATE, "unknowns": [name], "equations": f"laplace({name}) = k", "conditions": edge}


@pytest.mark.parametrize("kind", ["unknown", "coefficient", "coordinate"])
@pytest.mark.parametrize("name", ["sin", "pi", "laplace", "where", "max", "Abs", "Derivative", "erf"])
def test_names_of_functions_are_taken(kind: str, name: str) -> None:
    with pytest.raises(UserError, match=f"{kind}={name}: expected another name, as formulas have a function"):
        text_problem("plate", named(kind, name))


@pytest.mark.parametrize("kind", ["unknown", "coefficient"])
@pytest.mark.parametrize("name", ["lambda", "2u", "a b", "None", "a-b"])
def test_names_are_names(kind: str, name: str) -> None:
    with pytest.raises(UserError, match=f"{kind}={name}: expected letters and digits, a letter first, no word of"):
        text_problem("plate", named(kind, name))


@pytest.mark.parametrize("name", ["u_x", "u_n", "u_yy", "n_x"])
def test_a_coefficient_that_reads_like_a_derivative_or_normal_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"the name {name} has two meanings: a coefficient, and a derivative"):
        text_problem("plate", named("coefficient", name))


@pytest.mark.parametrize("name", ["inside", "residual", "exact", "adapt"])
def test_a_coefficient_that_takes_the_place_of_a_method_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"coefficient={name}: expected another name, as every problem has"):
        text_problem("plate", named("coefficient", name))


def test_usual_names_stay() -> None:
    text_problem("plate", named("coefficient", "d"))
    for name in ("e", "E", "I", "S", "N", "beta", "gamma", "zeta", "nan"):
        text_problem("plate", named("unknown", name))
    assert text_problem("plate", named("coordinate", "theta")).domain.names == ("x", "theta")


def test_an_interval_the_wrong_way_round_is_not_a_wrong_name() -> None:
    for domain in ("Box(x=(1, 0), y=(0, 1))", {"x": [1, 0], "y": [0, 1]}):
        with pytest.raises(UserError, match=re.escape("Box(x=(1, 0)): expected finite ends, the lower one first")):
            text_problem("plate", {**PLATE, "domain": domain})
    with pytest.raises(UserError, match="expected a name of letters and digits"):
        Box(x_1=(0, 1))
    with pytest.raises(UserError, match=r"positional .*; its arguments are intervals by name, such as x=\[0, 1\]"):
        text_problem("plate", {**PLATE, "domain": "Box((0, 1), (0, 1))"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("laplace(u) + (k*x = 2", "letter 14: this bracket is not closed"),
        ("k = laplace(u + 2*(x+y)", "letter 12: this bracket is not closed"),
        ("laplace(u = k", "letter 8: this bracket is not closed"),
        ("laplace(u) = k*[x", "letter 16: this bracket is not closed"),
        ("laplace(u)) = k", "letter 11: this bracket closes none"),
        ("laplace(u] = k", "letter 10: this bracket closes none"),
        ("laplace(u) + = k", "letter 13: is no formula here"),
        ("laplace(u) = 2 k x", "letter 16: is no formula here; is an operation missing"),
        ("laplace(u) = 2x", "letter 14: is no formula here; is an operation missing"),
        ("laplace(u) == k", "an equation has one ="),
    ],
)
def test_messages_point_at_the_fault(text: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        text_problem("plate", {**PLATE, "equations": {"heat": text}})


def test_an_equation_without_sides_is_told() -> None:
    told = "problem.equations.heat=laplace(u) - k: has no '='; it is taken for laplace(u) - k = 0"
    with pytest.warns(UserWarning, match=re.escape(told)):
        text_problem("plate", {**PLATE, "equations": {"heat": "laplace(u) - k"}})
    with pytest.warns(UserWarning, match="problem.conditions.edge.equation=u: has no '='"):
        text_problem("plate", {**PLATE, "conditions": {"edge": {"on": "boundary", "equation": "u"}}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_problem("plate", {**PLATE, "reference": {"u": "k*x"}})


def test_whoever_opens_a_log_later_hears_the_cautions_of_its_thread() -> None:
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        with heard() as outer:
            caution("one")
            with heard() as inner:
                caution("two")
            other = Thread(target=caution, args=("elsewhere",))
            other.start()
            other.join()
        caution("later")
    assert (outer, inner) == (["one", "two"], ["two"])
    assert [str(one.message) for one in given] == ["one", "two", "elsewhere", "later"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x;y;u\n0.5;0.5;1\n", "data=d.csv: the cells of its first line, x;y;u, are separated by ';'; expected commas"),
        ("x;y;u\n0,5;0,5;1\n", "are separated by ';'; expected commas between cells, and points in numbers"),
        ("x y u\n0.5 0.5 1\n", "are separated by ' '"),
        ("0.5,0.5,1\n0.1,0.2,1\n", "data=d.csv: line 1 holds numbers; expected the names of the columns there"),
        ("x,u\n0.5,1\n", "data=d.csv: no column y; columns are x, u"),
        ("x,y,u,w\n0.5,0.5,1,3\n", "data=d.csv: column w is no unknown, nor sigma_ of one"),
        ("x,y,u\n5,0.5,1\n", "data=d.csv: its point x=5, y=0.5 lies outside the domain"),
        ("x,y,u\n0.5,high,1\n", "data=d.csv: line 2: y='high': expected a finite number"),
    ],
)
def test_files_of_data_are_called_by_their_name(text: str, words: str, folder: Path) -> None:
    Path("d.csv").write_text(text)
    problem = text_problem("plate", PLATE)
    with pytest.raises(UserError, match=re.escape(words)):
        observed(problem, read_data(problem, "d.csv"), "d.csv")


def test_a_column_of_texts_that_has_no_use_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("d.csv").write_text("station,x,y,u\nnorth,0.5,0.5,1\nsouth,0.5,0.25,2\n")
    problem = text_problem("plate", PLATE)
    (data,) = observed(problem, read_data(problem, ["d.csv"]), ["d.csv"]).observed
    assert list(data.table) == ["x", "y", "u"] and np.array_equal(data.table["u"], [1, 2])
    assert capsys.readouterr().err == "kanpinn: warning: data=d.csv: station: no numbers there, left out\n"


@pytest.mark.parametrize(("name", "other"), [("my-prob", "my_prob"), ("My prob", "my_prob"), ("2d.plate", "d_plate")])
def test_a_name_that_works_is_offered(name: str, other: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", name]) == 2
    assert capsys.readouterr().err.endswith(f"a letter first, such as {other}.\n")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["nan", ".nan", "-inf", "1", "yes", '""', '"a/b"', "[a]"])
def test_a_problem_is_called_by_a_text(name: str, folder: Path) -> None:
    Path("conf/problem").mkdir(parents=True)
    Path("conf/problem/plate.yaml").write_text(f"name: {name}\ndomain: {{x: [0, 1]}}\nequations: u_xx = 1\n")
    with pytest.raises(UserError, match=r"conf/problem/plate.yaml: name=.*: expected a name as text, such as plate"):
        compose(["problem=plate"])


def test_what_a_solve_cannot_do_without_is_not_taken_out(folder: Path) -> None:
    for word in ("~problem", "~problem.name"):
        with pytest.raises(UserError, match=f"^{word}: a solve needs it; valid choices: .*heat"):
            compose([word])
