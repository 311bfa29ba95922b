"""Loggers: what each has been told, read back by the program it is for; and that none of them stops a solve."""

import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kanpinn.errors import DivergedError, UserError
from kanpinn.loggers import LOGGERS, Logger, NoLogger, Report
from kanpinn.loggers.base import leaves, numbers
from kanpinn.run.run import run
from kanpinn.settings.compose import compose

TINY = [
    *("problem=poisson", "backbone=kan", "backbone.width=[2]", "backbone.grid=2", "schedule.levels=2"),
    *("schedule.steps=3", "schedule.starts=1", "sampler.interior=16", "sampler.boundary=8", "output.points=5"),
    *("output.figures=false", "output.progress=false", "threads=1"),
]


def solve(folder: Path, *overrides: str, observers=()):
    cfg, _ = compose([*TINY, *overrides])
    return run(cfg, folder / "run", observers)


@dataclass
class Witness(Logger):
    """Keeps what it is told, and raises where asked to."""

    fails_at: str = ""
    fault: BaseException = field(default_factory=lambda: OSError(28, "No space\nleft on device"))
    every: int = 1

    def __post_init__(self) -> None:
        self.told: list[tuple] = []

    def _note(self, what, *content):
        self.told.append((what, *content))
        if what == self.fails_at:
            raise self.fault

    def start(self, config, folder):
        self._note("start", config, folder)

    def step(self, number, row):
        self._note("step", number, dict(row))

    def level(self, number, record):
        self._note("level", number, dict(record))

    def finish(self, number, metrics, figures):
        self._note("finish", number, metrics, [figure.name for figure in figures])


@pytest.mark.usefixtures("folder")
def test_a_solve_tells_everything_in_order(folder):
    witness = Witness()
    solution = solve(folder, "output.figures=true", observers=[witness])
    assert [told[0] for told in witness.told] == [
        *("start", *["step"] * 3, "level", *["step"] * 3, "level", "finish"),
    ]
    config, place = witness.told[0][1:]
    assert (config["problem"]["name"], config["schedule"]["levels"], place) == ("poisson", 2, folder / "run")
    steps = [told for told in witness.told if told[0] == "step"]
    assert [number for _, number, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert [row["level"] for _, _, row in steps] == [0, 0, 0, 1, 1, 1]
    levels = [record for what, _, *record in witness.told if what == "level"]
    assert [record["loss"] for (record,) in levels] == [level["loss"] for level in solution.metrics["levels"]]
    assert witness.told[-1][2] == solution.metrics
    assert set(witness.told[-1][3]) == {path.name for path in (folder / "run/figures").glob("*.png")}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("where", ["start", "step", "level", "finish"])
def test_a_logger_that_fails_does_not_stop_the_solve(where, folder, monkeypatch, capsys):
    witness = Witness(where)
    monkeypatch.setattr("kanpinn.run.run.Report", lambda _, *others: Report(witness, *others))
    solution = solve(folder)
    assert solution.metrics["status"] == "step_limit"
    assert [told[0] for told in witness.told].count(where) == 1
    assert witness.told[-1][0] == where
    log = (folder / "run/log.txt").read_text()
    assert log.count("Witness failed") == 1
    assert "No space left on device" in log
    assert sum("Witness" in line for line in capsys.readouterr().err.splitlines()) == 1


def test_a_logger_that_ends_the_process_has_failed_only():
    told = []
    report = Report(Witness("step", SystemExit(1)), told.append)
    report.step({"loss": 1.0})
    assert told == ["warning: Witness failed, nothing more is logged there: SystemExit: 1"]


@pytest.mark.usefixtures("folder")
def test_what_an_observer_raises_ends_the_run(folder):
    witness, other = Witness("level"), Witness()
    with pytest.raises(OSError, match="No space"):
        solve(folder, observers=[other, witness])
    assert other.told[-1] == ("finish", 3, None, [])


def test_one_step_in_every_few_and_the_first():
    witness = Witness(every=4)
    report = Report(witness, pytest.fail)
    for k in range(10):
        report.step({"loss": float(k)})
    assert [number for _, number, _ in witness.told] == [1, 4, 8]
    report.finish(None)
    report.finish({"loss": 1.0})
    assert witness.told[-1] == ("finish", 10, None, [])


def test_only_finite_numbers_are_logged():
    values = {"a": 1, "b": {"c": 2.5, "d": "text", "e": None}, "f": math.nan, "g": True, "h": -math.inf}
    assert leaves({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}
    assert numbers(values, "x/") == {"x/a": 1.0, "x/b.c": 2.5}


@pytest.mark.parametrize("name", [name for name in LOGGERS if name != "none"])
def test_an_absent_library_is_one_line_before_any_work(name, kanpinn, folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted, *a: None if wanted == name else find(wanted, *a))
    result = kanpinn("solve", *TINY, f"logger={name}", "hydra.run.dir=run")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"logger={name}" in result.err
    assert f"pip install 'kanpinn[{name}]'" in result.err
    assert not (folder / "run").exists()


def test_a_folder_of_the_librarys_name_is_not_the_library(monkeypatch, tmp_path):
    (tmp_path / "no_such_logger").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    class Absent(NoLogger):
        package, extra = "no_such_logger", "none"

    with pytest.raises(UserError, match="not installed"):
        Absent().require()


@pytest.mark.parametrize("name", [name for name in LOGGERS if name != "none"])
def test_every_must_be_a_number_of_steps(name, kanpinn):
    result = kanpinn("solve", f"logger={name}", "logger.every=0")
    assert (result.code, "logger.every=0" in result.err) == (2, True)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_tensorboard_reads_back_every_number(folder):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    solution = solve(folder, "logger=tensorboard", "output.figures=true")
    found = events.EventAccumulator(str(folder / "run/tensorboard"), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    history = [level["loss"] for level in solution.metrics["levels"]]
    steps = found.Scalars("step/loss")
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in found.Scalars("level/loss")] == pytest.approx(history, rel=1e-6)
    assert found.Scalars("final/relative_l2.u")[0].value == pytest.approx(solution.metrics["relative_l2"]["u"], 1e-6)
    assert found.Scalars("final/parameters")[0].value == solution.metrics["parameters"]
    pictures = {path.stem for path in (folder / "run/figures").glob("*.png")}
    assert {tag.removeprefix("figures/") for tag in found.Tags()["images"]} == pictures
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "name: poisson" in text


@pytest.mark.slow
def test_mlflow_reads_back_every_number(folder, tmp_path_factory, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    elsewhere = tmp_path_factory.mktemp("elsewhere")  # where the same relative address means another file
    monkeypatch.chdir(elsewhere)
    solve(elsewhere, "logger=mlflow")
    monkeypatch.chdir(folder)
    solution = solve(folder, "logger=mlflow", "logger.every=2", "output.figures=true")
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/outputs/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("kanpinn").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.tags["status"] == "step_limit"
    assert found.data.params["problem.name"] == "poisson"
    assert found.data.params["schedule.levels"] == "2"
    assert found.data.metrics["relative_l2.u"] == solution.metrics["relative_l2"]["u"]
    assert sorted(m.step for m in client.get_metric_history(found.info.run_id, "step.loss")) == [1, 2, 4, 6]
    pictures = {f"figures/{path.name}" for path in (folder / "run/figures").glob("*.png")}
    assert {item.path for item in client.list_artifacts(found.info.run_id, "figures")} == pictures


@pytest.mark.slow
def test_wandb_offline_keeps_the_run_in_its_folder(folder):
    pytest.importorskip("wandb")
    solve(folder, "logger=wandb")
    (file,) = (folder / "run").glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    assert b"step/loss" in content
    assert b"relative_l2.u" in content
    assert "failed" not in (folder / "run/log.txt").read_text()


@pytest.mark.usefixtures("folder")
def test_a_solve_that_diverges_still_reports_its_end(folder):
    witness = Witness()
    with pytest.raises(DivergedError):
        solve(folder, "optimizer=gradient_descent", "optimizer.lr=1e30", observers=[witness])
    assert witness.told[-1][0] == "finish"
    assert witness.told[-1][2]["status"] == "diverged"
