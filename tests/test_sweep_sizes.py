"""Sweeps of any size, with folders of any name: counted before they are listed, each job in a folder of its own."""

import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from kanpinn.errors import UserError
from kanpinn.settings.compose import parse
from kanpinn.sweep.ledger import Ledger
from kanpinn.sweep.plan import Planned, combinations, enrol, planned_jobs
from kanpinn.sweep.space import count, points, space
from kanpinn.sweep.study import Search, open_study

optuna = pytest.importorskip("optuna")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["seed=range(0,1000000000)"], ["seed=range(0,1000000000)", "1,000,000,000 values", "10,000"]),
        (["seed=range(0,5000)", "a=range(5000,0,-1)"], ["25,000,000 jobs", "5000 of seed × 5000 of a"]),
        (["a=range(0,1,1e-9)"], ["1,000,000,000 values"]),
        (["a=range(0,1,1e-300)"], ["more than 10^15 values"]),
        ([f"k{k}=range(0,10)" for k in range(100)], ["more than 10^15 jobs"]),
        (["a=range(0,1e400)"], ["no end"]),
        (["a=range(0,5,0)"], ["no values"]),
        (["a=range(5,5)"], ["no values"]),
        (["a=range(0,1,-0.5)"], ["no values"]),
        (["a=glob(*)"], ["list the values"]),
        (["a=interval(0,1)"], ["kanpinn tune"]),
    ],
)
def test_jobs_are_counted_before_they_are_listed(texts, words):
    parsed = parse(texts)
    began = time.process_time()
    tracemalloc.start()
    with pytest.raises(UserError) as raised:
        combinations(parsed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - began < 0.5
    assert peak < 2**20
    for word in words:
        assert word in str(raised.value)
    assert len(str(raised.value)) < 1500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("a=range(0,10,3)", 4), ("a=range(10,0,-3)", 4), ("a=range(0,1,0.25)", 4), ("a=x,y,z", 3), ("a=1", 1)),
        *(("a=choice([1,2],3)", 2), ("a=shuffle(range(0,7))", 7), ("a=float(range(0,7))", 7)),
    ],
)
def test_the_count_is_that_of_the_list(text, expected):
    (override,) = parse([text])
    assert count(override) == expected == len(combinations([override]))


@pytest.mark.parametrize("text", ["a=range(0,1000000000)", "a=range(0,1000000000,3)"])
def test_a_search_takes_a_long_range_without_walking_it(text):
    began = time.process_time()
    spanned = space(parse([text]))
    assert (spanned["a"].low, points(spanned)) == (0, None)
    assert time.process_time() - began < 0.5
    with pytest.raises(UserError, match="values; expected at most"):
        space(parse(["a=range(0,1,1e-9)"]))


def test_an_override_is_no_longer_than_a_page(kanpinn, recorded_run):
    began = time.process_time()
    result = kanpinn("solve", f"backbone.width=[{','.join(['1'] * 50_000)}]")
    assert time.process_time() - began < 1
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "99,999" in result.err or "100,016 letters" in result.err
    assert len(result.err) < 250


def test_lists_have_an_end(kanpinn, recorded_run, folder):
    (folder / "conf/experiment").mkdir(parents=True)
    (folder / "conf/experiment/e.yaml").write_text(
        f"# @package _global_\nbackbone: {{width: [{'1, ' * 1001}]}}\nschedule: {{levels: 1}}\n"
    )
    result = kanpinn("solve", "experiment=e")
    assert (result.code, result.err) == (
        2, "kanpinn: error: backbone.width: 1,001 values; expected at most 1,000.\n"
    )  # fmt: skip
    assert recorded_run == []


# --- folders


def folders(place: Path, subdir: str, words: str = "seed=0,1") -> list[str]:
    """The folders that a sweep's ledger has for its jobs."""
    return [job.folder for job in enrol(Ledger(place), planned_jobs(parse([words]), [f"hydra.sweep.subdir={subdir}"]))]


@pytest.mark.parametrize(
    ("subdir", "expected"),
    [
        ("job${hydra.job.num}", ["job0", "job1"]),
        ("job${hydra:job.id}/run", ["job0/run", "job1/run"]),
        ("n${seed}-${hydra.job.num}", ["n0-0", "n1-1"]),
        ("'%2e ü #?${seed}'", ["%2e ü #?0", "%2e ü #?1"]),
    ],
)
def test_a_jobs_folder_may_be_called_by_its_number(subdir, expected, folder):
    assert folders(folder / "sweep", subdir) == expected


def test_numbers_go_on_where_a_sweep_does(folder):
    assert folders(folder / "sweep", "job${hydra.job.num}") == ["job0", "job1"]
    assert folders(folder / "sweep", "job${hydra.job.num}", "seed=2,1,3") == ["job2", "job1", "job3"]


def test_names_put_together_from_numbers_stay_apart(tmp_path):
    """A folder called by seed and number: seed 11 of job 0 and seed 1 of job 10 would both be in 110."""
    place = Planned([], "", "", "{}\ue000")
    plan = [replace(place, overrides=[f"seed={k}"], subdir=place.subdir.format(k)) for k in (11, *range(2, 11), 1)]
    found = [job.folder for job in enrol(Ledger(tmp_path), plan)]
    assert len(set(found)) == 11
    assert (found[0], found[-1]) == ("110", "110-10")


@pytest.mark.parametrize("subdir", ["${nowhere}", "../x", "'a\tb'"])
def test_a_folder_that_cannot_be_is_refused(subdir, folder):
    with pytest.raises(UserError, match=r"hydra\.sweep\.subdir="):
        folders(folder / "sweep", subdir)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("letter", "end"), [("x", "${seed}"), ("€", "${hydra.job.num}")])
def test_a_name_too_long_for_a_folder_is_shortened_and_told_apart(letter, end, folder):
    found = folders(folder / "sweep", f"'{300 * letter}{end}'")
    assert len(set(found)) == 2
    for name in found:
        assert len(name.encode()) <= 220
        assert name.startswith(60 * letter)


def test_jobs_run_in_the_folders_of_such_names(kanpinn, recorded_run, folder):
    subdir = f"hydra.sweep.subdir='{300 * 'ü'}${{hydra.job.num}}'"
    result = kanpinn("solve", "-m", "seed=0,1", "hydra.sweep.dir=sweep", subdir)
    assert result.code == 0, result.err
    names = [job.folder for job in Ledger(folder / "sweep").jobs()]
    assert len(set(names)) == 2
    assert [asked["folder"] for asked in recorded_run] == [folder / "sweep" / name for name in names]


@pytest.mark.parametrize("name", ["p%20c", "q?x=1", "ü{x} #2"])
def test_a_study_lies_in_its_folder_whatever_that_is_called(name, kanpinn, folder, monkeypatch):
    here = folder / name
    here.mkdir()
    monkeypatch.chdir(here)
    plan = Search([], here / "outputs" / name, 1)
    plan.folder.mkdir(parents=True)
    spanned = space(parse(["a=1,2"]))
    open_study(plan, spanned).ask(spanned)
    assert len(open_study(plan, spanned).trials) == 1
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.db")] == [f"{name}/outputs/{name}/study.db"]
