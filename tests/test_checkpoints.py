"""Checkpoints of networks never trained: every part that a run is rebuilt from comes back, and what is none is told."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.defaults import foreign_defaults

import kanpinn as kp
from kanpinn.backbones import Backbone
from kanpinn.backbones.edits import edited
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.time_slabs import in_sequence, slab_networks
from kanpinn.errors import KanpinnWarning, UserError
from kanpinn.io.checkpoint import write_checkpoint
from kanpinn.io.hdf5 import versions
from kanpinn.pde.table import Table, table_of
from kanpinn.run import checkpoints
from kanpinn.run.checkpoints import Checkpoint, Checkpoints
from kanpinn.settings.configuration import Configuration
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver.setup import Start

NET = kp.Kan(width=[2], grid=2, degree=3)
FEW = kp.Sobol(interior=20, boundary=6)
WAVES = replace(NET, embedding=EmbeddingOptions("fourier", features=2))
STATE = {"number": 3, "parts": [{"w": np.arange(3.0)}]}


@dataclass(frozen=True)
class Decay(kp.Problem):
    """u_t = −k u from sin x."""

    k: float = 1.5
    domain = kp.Box(x=(0, 2), t=(0, 1))
    derivatives = ("t",)

    def residual(self, p: Any) -> Any:
        return p.u_t + self.k * p.u

    def conditions(self) -> list[Any]:
        return [kp.Condition("initial", "t-", lambda p: p.u - torch.sin(p.x))]


class Growth(Decay):
    """Another one."""

    def residual(self, p: Any) -> Any:
        return p.u_t - self.k * p.u


def table() -> Table:
    rows = np.random.default_rng(0).uniform(-1, 1, (12, 2))
    return table_of({"a": rows[:, 0], "b": rows[:, 1], "y": rows.prod(1)}, ["y"], split=(0.7, 0.3))


def configured(problem: Any, *parts: Any) -> Configuration:
    return configuration_of_objects(problem, [*parts, FEW])


def built(configuration: Configuration, *levels: int) -> tuple[Backbone, torch.Tensor]:
    """A network with each of its slabs on a level, and random parameters."""
    embedding = configuration.setup.embedding()
    coarsest, parts = configuration.setup.network(embedding), []
    for level in levels:
        network = coarsest
        while network.level < level:
            network = network.refined()
        parts.append(network)
    whole = parts[0] if len(parts) == 1 else in_sequence(embedding, tuple(parts))
    return whole, torch.from_numpy(np.random.default_rng(1).uniform(-0.5, 0.5, whole.size))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, torch.Tensor]:
    """A checkpoint of the finer one of two levels."""
    return written(tmp_path_factory.mktemp("plain"), configured(Decay(), NET, kp.Nested(levels=2)), 1)


def written(folder: Path, configuration: Configuration, *levels: int, **how: Any) -> tuple[Checkpoint, torch.Tensor]:
    network, theta = built(configuration, *(levels or (0,)))
    Checkpoints(folder, configuration).write(STATE, network, theta, **how)
    return checkpoints.newest(folder), theta


CASES: dict[str, tuple[Any, list[Any], tuple[int, ...]]] = {
    "one level": (Decay(), [NET, kp.Nested(levels=1)], (0,)),
    "levels": (Decay(k=0.5), [NET, kp.Nested(levels=3)], (2,)),
    "slabs": (Decay(), [NET, kp.Nested(levels=3, slabs=3)], (2, 0, 1)),
    "two slabs": (Decay(), [NET, kp.Nested(levels=2, slabs=2)], (1, 1)),
    "data": (Decay(), [NET, kp.Nested(levels=2), "data=[first.csv,second.csv]"], (1,)),
    "table": (table(), [NET, kp.Nested(levels=2)], (1,)),
    "frequencies": (Decay(), [WAVES, kp.Nested(levels=2)], (1,)),
    "single precision": (Decay(), [NET, kp.Nested(levels=2), "dtype=float32"], (1,)),
}


@pytest.mark.filterwarnings("error::kanpinn.KanpinnWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_network_comes_back_with_all_that_it_was_solved_with(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file, rows in (("first", "0.1,0.3,1\n0.2,0.9,2\n"), ("second", "0.7,0.5,0.5\n")):
        (tmp_path / f"{file}.csv").write_text(f"x,t,u\n{rows}")
    problem, parts, levels = CASES[name]
    configuration = configured(problem, *parts)
    network, theta = built(configuration, *levels)
    theta = theta.to(configuration.setup.dtype).requires_grad_()
    path = Checkpoints(tmp_path, configuration).write(STATE, network, theta, final=name == "levels")
    with foreign_defaults():
        checkpoint = checkpoints.newest(tmp_path)
        residuals, found = checkpoints.network(checkpoint)
    assert (path.name, checkpoint.path, checkpoint.final) == ("checkpoint_00001.h5", path, name == "levels")
    assert (found.dtype, found.device.type) == (theta.dtype, "cpu") and torch.equal(found, theta.detach())
    assert [(one.level, one.size) for one in slab_networks(residuals.backbone)] == [
        (one.level, one.size) for one in slab_networks(network)
    ]
    assert residuals.scales == configuration.setup.scales
    points = torch.from_numpy(np.random.default_rng(2).uniform(0, 1, (9, 2))).to(theta.detach())
    mine, theirs = (one.fields(found, points) for one in (configuration.setup.residuals(network), residuals))
    assert all(torch.equal(mine[key].data, theirs[key].data) for key in mine)
    mine, theirs = configuration.setup.problem, residuals.problem
    assert type(theirs).__name__ == type(problem).__name__ and theirs.domain == problem.domain
    columns = [
        {one.name: {key: c.tolist() for key, c in one.columns().items()} for one in p.observed} for p in (mine, theirs)
    ]
    assert columns[0] == columns[1] and len(mine.observed) == {"data": 2, "table": 1}.get(name, 0)
    if isinstance(problem, Table):
        assert isinstance(theirs, Table) and np.array_equal(theirs.points("train"), problem.points("train"))
        assert checkpoint.meta["problem"] is None and checkpoint.meta["table"]
    else:
        assert checkpoint.meta["table"] is None and isinstance(theirs, Decay) and theirs.k == problem.k
    again = checkpoint.state
    assert again["number"] == 3 and np.array_equal(again["parts"][0]["w"], np.arange(3.0))
    known = {"threads": torch.get_num_threads(), "versions": versions(), "asked": None, "start": None}
    assert checkpoint.meta | known == checkpoint.meta and checkpoint.meta["config"] == configuration.resolved


def test_frequencies_are_those_of_the_checkpoint_and_none_others_will_do(tmp_path: Path) -> None:
    configuration = configured(Decay(), WAVES, kp.Nested(levels=1))
    embedding = configuration.setup.embedding()
    assert embedding.frequencies is not None
    embedding.frequencies = embedding.frequencies * 1.25 + 0.1  # as another version of NumPy may draw them
    network = configuration.setup.network(embedding)
    theta = torch.full((network.size,), 0.3, dtype=torch.float64)
    Checkpoints(tmp_path, configuration).write(STATE, network, theta)
    checkpoint = checkpoints.newest(tmp_path)
    residuals, _ = checkpoints.network(checkpoint)
    found = residuals.backbone.embedding.frequencies
    assert found is not None and torch.equal(found, embedding.frequencies)
    for frequencies in ({}, {"embedding/frequencies": found.numpy()[:-1]}):
        kept = {key: one for key, one in checkpoint.arrays.items() if key != "embedding/frequencies"}
        with pytest.raises(UserError, match="frequencies of the Fourier embedding are missing"):
            checkpoints.network(checkpoint._replace(arrays=kept | frequencies))


def test_a_network_that_has_grown_comes_back_grown(tmp_path: Path) -> None:
    stages = [{"level": 0, "steps": 1}, {"level": 0, "steps": 1, "widen": [2]}, {"level": 1, "steps": 1, "deepen": 1}]
    configuration = configured(Decay(), NET, kp.Custom(stages=stages))
    setup, generator = configuration.setup, np.random.default_rng(0)
    network = edited(setup.network(), "widen", (2,), generator).after
    theta = network.initial(generator)
    Checkpoints(tmp_path, configuration).write(STATE, network, theta)
    checkpoint = checkpoints.newest(tmp_path)
    residuals, found = checkpoints.network(checkpoint)
    assert residuals.backbone.edits == network.edits and torch.equal(found, theta)
    for edits in ([["widen", [3]]], [["deepen", 1]], [["widen", [2]], ["widen", [2]]]):
        with pytest.raises(UserError, match="its edits are not those of its schedule"):
            checkpoints.network(checkpoint._replace(meta={**checkpoint.meta, "edits": edits}))


@pytest.mark.parametrize(
    ("meta", "arrays", "told"),
    [
        ({"levels": [2]}, {}, r"levels \[2\] are not those"),
        ({"levels": [-1]}, {}, r"levels \[-1\] are not those"),
        ({"levels": [1, 1]}, {}, r"levels \[1, 1\] are not those"),
        ({"levels": []}, {}, r"levels \[\] are not those"),
        ({"levels": [0]}, {}, "parameters, but its config describes"),
        ({"levels": 3}, {}, "not a checkpoint of a kanpinn run"),
        ({}, {"theta": np.zeros(3)}, "holds 3 parameters, but"),
        ({}, {"theta": np.float32}, "its parameters are torch.float32"),
        ({"scales": {}}, {}, "of another version of kanpinn"),
        ({"scales": 3}, {}, "not a checkpoint of a kanpinn run"),
        ({"scales": {"outputs": (1.0, 2.0)}}, {}, "scales of 2 outputs"),
        ({"config": 3}, {}, "not a checkpoint of this version"),
        ({"problem": 3}, {}, "not a checkpoint of this version"),
        ({"start": 3}, {}, "its start is"),
        ({"start": {"stage": 0, "slabs": 1}}, {}, "its start is"),
        ({"data": {"a": 1}}, {}, "its data are missing"),
        ({"data": ["first", "second"]}, {}, "its data are missing"),
        ({"data": "ab"}, {"data/a/u": np.zeros(2), "data/b/u": np.zeros(2)}, "its data are missing"),
        ({"data": [7]}, {"data/7/u": np.zeros(2)}, "its data are missing"),
    ],
    ids=str,
)
def test_what_is_no_record_of_a_run_is_told_in_a_line(meta, arrays, told: str, plain) -> None:
    checkpoint, theta = plain
    if arrays.get("theta") is np.float32:
        arrays = {"theta": theta.numpy().astype(np.float32)}
    if isinstance(meta.get("scales"), dict) and meta["scales"]:
        meta = {"scales": {**checkpoint.meta["scales"], **meta["scales"]}}
    forged = checkpoint._replace(meta={**checkpoint.meta, **meta}, arrays={**checkpoint.arrays, **arrays})
    with pytest.raises(UserError, match=told) as error:
        checkpoints.network(forged)
    assert str(error.value).startswith(f"{checkpoint.path}: ")


def test_a_record_without_a_part_is_of_another_version(plain) -> None:
    checkpoint, _ = plain
    for name in ("levels", "edits", "scales"):
        meta = {key: one for key, one in checkpoint.meta.items() if key != name}
        with pytest.raises(UserError, match=rf"of another version of kanpinn \(it has no '{name}'\)"):
            checkpoints.network(checkpoint._replace(meta=meta))
    less = {key: one for key, one in checkpoint.meta.items() if key not in ("data", "start", "asked", "table")}
    assert checkpoints.network(checkpoint._replace(meta=less))[0].problem.observed == ()


def test_a_start_comes_back(tmp_path: Path) -> None:
    configuration = configured(Decay(), NET, kp.Nested(levels=2, slabs=2))
    thetas = tuple(torch.full((5 + k,), 0.1 * k, dtype=torch.float64) for k in range(2))
    for stage, expected in ((1, 1), (0, 0), (-3, 0)):
        given = replace(configuration, setup=replace(configuration.setup, start=Start(stage, thetas)))
        with foreign_defaults():
            checkpoint, _ = written(tmp_path, given, 0, 1)
            found = checkpoints.configuration_of(checkpoint).setup.start
        assert found is not None and found.stage == expected and len(found.thetas) == 2
        assert all(torch.equal(one, other) for one, other in zip(found.thetas, thetas, strict=True))
        assert {one.dtype for one in found.thetas} == {torch.float64}


def test_another_text_of_the_problem_is_refused_and_the_one_stored_may_be_taken(tmp_path: Path) -> None:
    checkpoint, theta = written(tmp_path / "run", configured(Decay(), NET, kp.Nested(levels=1)))
    assert type(checkpoints.network(checkpoint)[0].problem) is Decay
    assert type(checkpoints.configuration_of(checkpoint, stored=False).setup.problem) is Decay
    stored, found = checkpoints.network(checkpoint, stored=True)
    assert type(stored.problem) is not Decay and type(stored.problem).__name__ == "Decay" and torch.equal(found, theta)
    assert type(checkpoints.network(checkpoint, Decay(k=1.5))[0].problem) is Decay
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path / 'run'))}: its problem's text has changed"):
        checkpoints.network(checkpoint, Growth())
    gone = {**checkpoint.meta["config"], "problem": {**checkpoint.meta["config"]["problem"], "object": "gone.Decay"}}
    gone = checkpoint._replace(meta={**checkpoint.meta, "config": gone})
    for read in (checkpoints.configuration_of, checkpoints.asked_of, checkpoints.network):
        with pytest.raises(UserError, match=r"run: there is no file of problem=.*not to be run"):
            read(gone, stored=False)
        with pytest.warns(KanpinnWarning, match="the text stored in the run is used"):
            read(gone)


def test_options_change_by_their_dotted_keys(tmp_path: Path) -> None:
    known = {"a": {"b": 1, "c": 2}, "d": {"e": {"f": 3}}, "g": 4}
    found = checkpoints.changed_config(known, {"a.b": 5, "g": 6, "h.i": 7, "d.e": 8})
    assert found == {"a": {"b": 5, "c": 2}, "d": {"e": 8}, "g": 6, "h": {"i": 7}}
    assert known == {"a": {"b": 1, "c": 2}, "d": {"e": {"f": 3}}, "g": 4}
    checkpoint, _ = written(tmp_path, configured(Decay(), NET, kp.Nested(levels=1), "checkpoint.keep=3"))
    for changed, keep, every in ((None, 3, 60.0), ({"checkpoint.keep": 5}, 5, 60.0), ({"checkpoint.every_s": 1}, 3, 1)):
        options = checkpoints.configuration_of(checkpoint, changed=changed).settings.checkpoint
        assert (options.keep, options.every_s) == (keep, every)


def test_what_a_search_was_asked_for_comes_back(tmp_path: Path) -> None:
    asked = configured(Decay(), NET, kp.Nested(levels=2), "accuracy=1e-2")
    one = configured(Decay(), replace(NET, width=[3]), kp.Nested(levels=2))
    writer = Checkpoints(tmp_path, asked)
    writer.configuration = one
    writer.write(STATE, *built(one, 1))
    checkpoint = checkpoints.newest(tmp_path)
    assert checkpoints.asked_of(checkpoint).resolved["accuracy"] == 1e-2
    assert checkpoints.asked_of(checkpoint, changed={"accuracy": 0.1}).resolved["accuracy"] == 0.1
    assert checkpoints.configuration_of(checkpoint).setup.backbone == one.setup.backbone
    with pytest.raises(UserError, match="has changed since"):
        checkpoints.asked_of(checkpoint, Growth())
    assert Checkpoints(tmp_path, one).asked is None


def test_files_are_numbered_on_and_only_the_last_are_kept(tmp_path: Path) -> None:
    configuration = configured(Decay(), NET, kp.Nested(levels=1), "checkpoint.keep=3")
    network, theta = built(configuration, 0)

    def names() -> list[str]:
        return [file.name.removeprefix("checkpoint_").removesuffix(".h5") for file in checkpoints.files(tmp_path)]

    writer = Checkpoints(tmp_path, configuration)
    assert (writer.seconds, writer.affordable, writer.due, writer.folder) == (0.0, True, False, tmp_path)
    taken = []
    for _ in range(5):
        writer.write(STATE, network, theta)
        taken.append(writer.seconds)
    assert names() == ["00003", "00004", "00005"]
    assert 0 < taken[0] < taken[1] < taken[4] < 5 and not writer.affordable  # 50 times as long has to go by
    for name in ("x", "0000000009", "999999999", "00005_2", "00000"):
        (tmp_path / "checkpoints" / f"checkpoint_{name}.h5").touch()
    (tmp_path / "checkpoints" / "other_00007.h5").touch()
    assert names() == ["0000000009", "x", "00000", "00005_2", "00003", "00004", "00005", "999999999"]
    for name in ("x", "0000000009", "999999999", "00005_2", "00000"):
        (tmp_path / "checkpoints" / f"checkpoint_{name}.h5").unlink()
    resumed = Checkpoints(tmp_path, configuration, tmp_path / "checkpoints" / "checkpoint_00004.h5")
    resumed.write(STATE, network, theta)
    assert names() == ["00003", "00004", "00006"]
    (tmp_path / "checkpoints" / "checkpoint_00007.h5").touch()
    resumed.write(STATE, network, theta)
    assert names() == ["00004", "00006", "00007"]
    for file in checkpoints.files(tmp_path):
        file.unlink()
    resumed = Checkpoints(tmp_path, configuration, tmp_path / "checkpoints" / "checkpoint_00006.h5")
    assert resumed.write(STATE, network, theta).name == "checkpoint_00001.h5"
    (tmp_path / "x" / "checkpoints").mkdir(parents=True)
    (tmp_path / "x" / "checkpoints" / "checkpoint_x.h5").touch()
    assert Checkpoints(tmp_path / "x", configuration).write(STATE, network, theta).name == "checkpoint_00000.h5"


def test_damaged_files_that_have_gone_meanwhile_are_no_matter(tmp_path: Path) -> None:
    configuration = configured(Decay(), NET, kp.Nested(levels=1))
    checkpoint, theta = written(tmp_path, configuration)
    damaged = checkpoint.path.with_name("checkpoint_00002.h5")
    damaged.touch()
    writer = Checkpoints(tmp_path, configuration, checkpoint.path)
    damaged.unlink()
    for number in (3, 4):
        assert writer.write(STATE, built(configuration, 0)[0], theta).name == f"checkpoint_{number:05d}.h5"
        assert len(checkpoints.files(tmp_path)) == 2


def test_the_newest_that_is_whole_is_read_and_every_damaged_one_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        checkpoints.newest(tmp_path / "none")
    with pytest.raises(UserError, match="not a run folder"):
        checkpoints.newest(tmp_path)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for number in (1, 2):
        write_checkpoint(folder / f"checkpoint_{number}.h5", {"a": np.full(2, float(number))}, {"number": number})
    (folder / "checkpoint_3.h5").touch()
    (folder / "checkpoint_4.h5").touch()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = checkpoints.newest(tmp_path)
    assert (found.path.name, found.meta["number"], found.arrays["a"].tolist()) == ("checkpoint_2.h5", 2, [2.0, 2.0])
    lines = [str(one.message) for one in told]
    assert ["checkpoint_4.h5" in lines[0], "checkpoint_3.h5" in lines[1], len(lines)] == [True, True, 2]
    assert all("The one before it, checkpoint_2.h5, is used." in line for line in lines)
    for number in (1, 2):
        (folder / f"checkpoint_{number}.h5").write_bytes(b"")
    with pytest.raises(UserError, match=r"checkpoint_4\.h5"):
        checkpoints.newest(tmp_path)


def test_threads_are_those_of_the_run_and_other_versions_are_named() -> None:
    now = versions()
    first, *rest = now

    def told(meta: dict[str, Any]) -> tuple[int | None, list[Any]]:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            return checkpoints.same_threads(Checkpoint(Path("c.h5"), {}, meta)), found

    for threads, expected in ((1, 1), (4096, 4096), (0, None), (4097, None), ("3", None), (2.0, None), (None, None)):
        assert told({"threads": threads, "versions": now}) == (expected, [])
    assert told({}) == (None, []) and told({"versions": "old", "threads": 5}) == (5, [])
    threads, (one,) = told({"threads": 2, "versions": {**now, first: "0.1"}})
    assert threads == 2 and f"({first} 0.1 → {now[first]})" in str(one.message)
    assert str(one.message).startswith("c.h5: written with other versions") and not any(
        f"{name} " in str(one.message) for name in rest
    )
    _, (one,) = told({"versions": {first: now[first]}})
    assert "; ".join([str(one.message)]).count("None → ") == len(rest)


def test_metrics_of_another_state_are_told(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    checkpoint, theta = written(tmp_path / "run", configured(Decay(), NET, kp.Nested(levels=1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        residuals, found, metrics = checkpoints.restore(tmp_path / "run", Decay(), stored=True)
    assert (type(residuals.problem), metrics) == (Decay, {}) and torch.equal(found, theta)
    assert type(checkpoints.restore(tmp_path / "run", stored=True)[0].problem) is not Decay
    with pytest.raises(UserError, match="has changed since"):
        checkpoints.restore(tmp_path / "run", Growth())
    assert not checkpoint.final and checkpoint._replace(meta={}).final
