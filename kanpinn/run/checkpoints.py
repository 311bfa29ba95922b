"""The checkpoints of a run: when they are written, which one is read, and what is built from it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.edits import rebuilt
from kanpinn.backbones.time_slabs import in_sequence, slab_networks
from kanpinn.errors import UserError, caution
from kanpinn.io.checkpoint import read_checkpoint, write_checkpoint
from kanpinn.io.hdf5 import versions
from kanpinn.io.metrics import metrics_of
from kanpinn.io.same_run import check_one_run
from kanpinn.least_squares.residuals import Residuals, Scales
from kanpinn.pde.problem import Problem, output_names
from kanpinn.pde.table import Table
from kanpinn.run.values_check import check_values, compare_values
from kanpinn.settings.configuration import Configuration
from kanpinn.settings.problem_text import text_in, text_of
from kanpinn.settings.tables import stored_table, table_arrays, table_record
from kanpinn.solver.setup import Start
from kanpinn.state import State, join, split, tensor

FOLDER = "checkpoints"
SHARE = 0.02
"""Largest part of the time that goes into checkpoints; where stages are short, not every one of them ends in one."""


class Checkpoint(NamedTuple):
    """A checkpoint as read.

    Attributes:
        path: Its file.
        arrays: Its arrays by slash path.
        meta: Its record: `config`, `levels`, `state` and what else `Checkpoints.write` puts there.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]

    @property
    def final(self) -> bool:
        """True if its network is the one of the solution and the metrics written after it."""
        return self.meta.get("final", True) is True

    @property
    def state(self) -> State:
        """The solver's state, arrays in place of tensors; raises UserError if it is not there."""
        try:
            return dict(join(self.meta["state"], self.arrays))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.path}: holds no state to resume from ({error}).") from error


class Checkpoints:
    """The checkpoints that a run writes.

    Attributes:
        folder: The run folder.
        seconds: Time spent writing so far.
        configuration: Config of the network that is written next.
        asked: Config that a search was asked for with; None without a search.
    """

    def __init__(self, folder: Path, configuration: Configuration, resumed: Path | None = None) -> None:
        """Write into a run folder, from a checkpoint on: those after it are the damaged ones that were passed over."""
        self.folder = folder
        self._damaged = [] if resumed is None else [f for f in files(folder) if _number(f) > _number(resumed)]
        self.seconds = 0.0
        self.configuration, self.asked = configuration, configuration if configuration.searches else None
        self._options = configuration.settings.checkpoint
        self._number = max((_number(file) for file in files(folder)), default=0)
        problem = configuration.setup.problem
        text = None if isinstance(problem, Table) else text_of(type(problem))
        self._problem = None if text is None else text.record()
        self._last, self._cost = time.perf_counter(), 0.0

    @property
    def due(self) -> bool:
        """True once `checkpoint.every_s` seconds have gone by since the last one, and one more is affordable."""
        return time.perf_counter() - self._last >= self._options.every_s and self.affordable

    @property
    def affordable(self) -> bool:
        """True if one more would not take more than `SHARE` of the time since the last one; always at every_s=0."""
        return not self._options.every_s or time.perf_counter() - self._last >= self._cost / SHARE

    def write(self, state: State, backbone: Backbone, theta: Tensor, *, final: bool = False) -> Path:
        """Write one, then remove the damaged ones and all but the last `checkpoint.keep`; returns the file.

        It holds the solver's state and the best network there is on the whole domain, with its parameters `[P]`; a
        final one is followed by solution and metrics of the same network.
        """
        began = time.perf_counter()
        plain, arrays = split(state, "state")
        problem, start = self.configuration.setup.problem, self.configuration.setup.start
        table = problem if isinstance(problem, Table) else None
        data = () if table else problem.observed
        arrays |= {f"start/{k}": one.cpu().numpy() for k, one in enumerate(start.thetas if start else ())}
        arrays |= {f"data/{one.name}/{key}": column for one in data for key, column in one.columns().items()}
        arrays |= table_arrays(table) if table else {}
        arrays["theta"] = theta.detach().cpu().numpy()
        arrays |= check_values(self.configuration.setup.residuals(backbone), theta)
        if backbone.embedding.frequencies is not None:
            arrays["embedding/frequencies"] = backbone.embedding.frequencies.cpu().numpy()
        self._number += 1
        meta = {
            "config": self.configuration.resolved,
            "asked": None if self.asked is None else self.asked.resolved,
            "levels": [one.level for one in slab_networks(backbone)],
            "edits": [list(edit) for edit in slab_networks(backbone)[0].edits],
            "scales": self.configuration.setup.scales.state(),
            "problem": self._problem,
            "data": [one.name for one in data],
            "table": None if table is None else table_record(table),
            "start": None if start is None else {"stage": start.stage, "slabs": len(start.thetas)},
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "final": final,
            "state": plain,
        }
        path = self.folder / FOLDER / f"checkpoint_{self._number:05d}.h5"
        write_checkpoint(path, arrays, meta)
        whole = [file for file in files(self.folder) if file not in self._damaged]
        for old in [*self._damaged, *whole[: -self._options.keep]]:
            old.unlink(missing_ok=True)
        self._damaged = []
        self._last = time.perf_counter()
        self._cost = self._last - began
        self.seconds += self._cost
        return path


def files(folder: Path) -> list[Path]:
    """The checkpoint files of a run folder, the newest last."""
    return sorted((folder / FOLDER).glob("checkpoint_*.h5"), key=lambda file: (_number(file), file.name))


def _number(file: Path) -> int:
    digits = file.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() and len(digits) < 10 else -1


def newest(folder: Path) -> Checkpoint:
    """Return a run folder's newest checkpoint that is whole; a warning names damaged ones passed over.

    Raises:
        UserError: If the folder is missing or holds no checkpoint, or none that is whole.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a run folder")
    found = files(folder)
    if not found:
        raise UserError(f"{folder}: not a run folder: it has no {FOLDER}/checkpoint_*.h5")
    damaged: list[UserError] = []
    for path in reversed(found):
        try:
            checkpoint = Checkpoint(path, *read_checkpoint(path))
        except UserError as error:
            damaged.append(error)
            continue
        for error in damaged:
            caution(f"{error} The one before it, {path.name}, is used.")
        return checkpoint
    raise damaged[0]


def same_threads(checkpoint: Checkpoint) -> int | None:
    """Return the number of threads a run had; warns where another version of something may round otherwise."""
    then, now = checkpoint.meta.get("versions"), versions()
    if then != now and isinstance(then, Mapping):
        names = ", ".join(f"{name} {then.get(name)} → {now[name]}" for name in now if then.get(name) != now[name])
        text = f"{checkpoint.path}: written with other versions ({names}); last digits may differ from here on"
        caution(text, stacklevel=3)
    threads = checkpoint.meta.get("threads")
    return threads if isinstance(threads, int) and 1 <= threads <= 4096 else None


def changed_config(config: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config with other values for some dotted keys, such as "checkpoint.keep"."""
    out = dict(config)
    for key, value in changed.items():
        group, _, leaf = key.rpartition(".")
        if group:
            out[group] = {**out.get(group, {}), leaf: value}
        else:
            out[key] = value
    return out


def configuration_of(
    checkpoint: Checkpoint,
    problem: Problem | None = None,
    *,
    stored: bool | None = None,
    changed: Mapping[str, Any] | None = None,
) -> Configuration:
    """Return the config a checkpoint was made with.

    Args:
        checkpoint: The checkpoint.
        problem: The problem, where it was given as an object that no file defines.
        stored: True to take the problem's text stored in the run, whatever a file here says; False never to run it;
            None where there is no file of that name here.
        changed: By dotted key, what has another value.

    Returns:
        The checked config.

    Raises:
        UserError: If the record is not one of a run, or its problem has another text here.
    """
    path, meta = checkpoint.path, checkpoint.meta
    try:
        config = changed_config(meta["config"], {**(changed or {}), "data": None})  # the checkpoint holds them
        group, text = dict(config["problem"]), text_in(meta["problem"])
        if (known := meta.get("table")) is not None:
            problem = stored_table(known, checkpoint.arrays)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not a checkpoint of this version of kanpinn ({error}); solve anew") from error
    from kanpinn.settings.config import validate, with_data
    from kanpinn.settings.stored_problem import check_same, class_of

    run, given = str(path.parent.parent), problem
    if text is not None and problem is not None:
        check_same(run, text, type(problem))
    elif text is not None:
        given = class_of(run, group, text, stored)
    configuration = validate(config, None if given is None else {"problem": given})
    try:
        known = Scales.from_state(meta["scales"])
    except KeyError as error:
        raise UserError(f"{path}: of another version of kanpinn (it has no {error}); solve anew") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a checkpoint of a kanpinn run: {error}") from error
    if len(known.outputs) != len(output_names(configuration.setup.problem)):
        raise UserError(f"{path}: not a checkpoint of a kanpinn run: scales of {len(known.outputs)} outputs")
    configuration = with_data(configuration, stored_data(checkpoint), meta["config"].get("data"))
    try:
        start = _start_of(checkpoint)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not a checkpoint of a kanpinn run: its start is {error}") from error
    return replace(configuration, setup=replace(configuration.setup, known=known, start=start))


def asked_of(checkpoint: Checkpoint, *given: Any, **options: Any) -> Configuration:
    """Return the config that a run was asked for with, that of its search where it has one; as `configuration_of`."""
    asked = checkpoint.meta.get("asked")
    meta = {**checkpoint.meta, "config": asked} if isinstance(asked, Mapping) else checkpoint.meta
    return configuration_of(checkpoint._replace(meta=meta), *given, **options)


def _start_of(checkpoint: Checkpoint) -> Start | None:
    """Return the network that a run began with; raises one of several errors where it is none."""
    known = checkpoint.meta.get("start")
    if known is None:
        return None
    thetas = [tensor(checkpoint.arrays[f"start/{k}"], "cpu") for k in range(int(known["slabs"]))]
    return Start(max(int(known["stage"]), 0), tuple(thetas))


def stored_data(checkpoint: Checkpoint) -> dict[str, dict[str, np.ndarray]]:
    """Return the tables of measured data in a checkpoint, by name; raises UserError where they are none."""
    names, tables = checkpoint.meta.get("data", []), {}
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    for name in names if known else []:
        start = f"data/{name}/"
        tables[name] = {key.removeprefix(start): v for key, v in checkpoint.arrays.items() if key.startswith(start)}
    if not all(tables.values()) or not known:
        raise UserError(f"{checkpoint.path}: not a checkpoint of a kanpinn run: its data are missing")
    return tables


def network(
    checkpoint: Checkpoint, problem: Problem | None = None, *, stored: bool | None = None
) -> tuple[Residuals, Tensor]:
    """Rebuild a checkpoint's network on the CPU: its residuals and its parameters `[P]`.

    Problem and `stored` are as for `configuration_of`.

    Raises:
        UserError: If the checkpoint is not one of a run.
    """
    path, arrays = checkpoint.path, checkpoint.arrays
    configuration = configuration_of(checkpoint, problem, stored=stored, changed={"device": "cpu"})
    try:
        levels = [int(level) for level in checkpoint.meta["levels"]]
        edits = [(str(kind), tuple(n) if isinstance(n, list) else n) for kind, n in checkpoint.meta["edits"]]
        theta = tensor(arrays["theta"], "cpu")
    except KeyError as error:
        raise UserError(f"{path}: of another version of kanpinn (it has no {error}); solve anew") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a checkpoint of a kanpinn run: {error}") from error
    setup, schedule = configuration.setup, configuration.setup.schedule
    if len(levels) != schedule.slabs or not all(0 <= level < schedule.levels for level in levels):
        raise UserError(f"{path}: not a checkpoint of a kanpinn run: its levels {levels} are not those of its schedule")
    planned = [edit for stage in setup.plan() for edit in stage.edits]
    if edits != planned[: len(edits)]:
        raise UserError(f"{path}: not a checkpoint of a kanpinn run: its edits are not those of its schedule")
    embedding = setup.embedding()
    if embedding.frequencies is not None:
        frequencies = arrays.get("embedding/frequencies", np.empty(0))
        if frequencies.shape != tuple(embedding.frequencies.shape):
            raise UserError(f"{path}: the frequencies of the Fourier embedding are missing or damaged")
        embedding.frequencies = torch.from_numpy(frequencies)
    coarsest = rebuilt(setup.network(embedding), edits)
    networks = [coarsest for _ in levels]
    for k, level in enumerate(levels):
        while networks[k].level < level:
            networks[k] = networks[k].refined()
    backbone = networks[0] if len(networks) == 1 else in_sequence(embedding, tuple(networks))
    if theta.shape != (backbone.size,):
        raise UserError(f"{path}: holds {theta.numel()} parameters, but its config describes {backbone.size}")
    if theta.dtype != setup.dtype:
        raise UserError(f"{path}: not a checkpoint of a kanpinn run: its parameters are {theta.dtype}")
    compare_values(path, arrays, residuals := setup.residuals(backbone), theta)
    return residuals, theta


def restore(
    folder: Path, problem: Problem | None = None, *, stored: bool | None = None
) -> tuple[Residuals, Tensor, dict[str, Any]]:
    """Return the residuals and parameters `[P]` of a run's network, and the content of metrics.json.

    Problem and `stored` are as for `configuration_of`.

    Raises:
        UserError: If the folder is not a run or a file in it is damaged.
    """
    checkpoint = newest(folder)
    check_one_run(folder)
    residuals, theta = network(checkpoint, problem, stored=stored)
    metrics = metrics_of(folder)  # none if interrupted before the first were written: the network is still good
    if metrics and not checkpoint.final:
        caution(
            f"{checkpoint.path}: the network is that of another state of the run than metrics.json and solution.h5; "
            f"`kanpinn resume {folder}` brings them together."
        )
    return residuals, theta, metrics
