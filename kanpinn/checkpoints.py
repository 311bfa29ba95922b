"""Checkpoints of a run: parameters by layer, enough to evaluate the network again bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.slabs import in_sequence, slab_networks
from kanpinn.config import Configuration, validate
from kanpinn.errors import UserError
from kanpinn.io.checkpoint import read_checkpoint, write_checkpoint
from kanpinn.objective import Objective
from kanpinn.output import model_arrays
from kanpinn.places import packaged, problem_file
from kanpinn.problem import output_names

FOLDER = "checkpoints"


def save(folder: Path, number: int, configuration: Configuration, backbone: Backbone, theta: Tensor) -> Path:
    """Write one checkpoint.

    Args:
        folder: The run folder.
        number: The stage's number; the highest is the newest.
        configuration: The checked config.
        backbone: The network on its level.
        theta: Its parameters `[P]`.

    Returns:
        The file.
    """
    path = folder / FOLDER / f"stage_{number:03d}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = [body.level for body in slab_networks(backbone)]
    meta = {"config": configuration.resolved, "levels": levels, "stage": number}
    meta["problem_file"] = _own_file(configuration.resolved["problem"]["name"])
    write_checkpoint(path, {"theta": theta.detach().cpu().numpy(), **model_arrays(backbone, theta)}, meta)
    return path


def newest(folder: Path) -> Path:
    """The newest checkpoint of a run.

    Args:
        folder: The run folder.

    Returns:
        The file.

    Raises:
        UserError: If the folder is missing or holds no checkpoint.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a run folder")
    files = sorted((folder / FOLDER).glob("stage_*.h5"), key=lambda file: (len(file.stem), file.stem))
    if not files:
        raise UserError(f"{folder}: not a run folder: it has no {FOLDER}/stage_*.h5")
    return files[-1]


def _own_file(name: str) -> str | None:
    """The file of a user's own problem; None for a packaged one."""
    file = problem_file(name)
    own = file is not None and not file.parent.samefile(packaged("problems"))
    return str(file.resolve()) if file is not None and own else None


def restore(folder: Path) -> tuple[Objective, Tensor, dict[str, Any]]:
    """Rebuild the network of a run.

    Args:
        folder: The run folder.

    Returns:
        Its objective (without points), its parameters `[P]` and the content of metrics.json.

    Raises:
        UserError: If the folder is not a run or a file in it is damaged.
    """
    path = newest(folder)
    arrays, meta = read_checkpoint(path)
    try:
        config = dict(meta["config"], device="cpu")
        levels, name = [int(level) for level in meta["levels"]], str(config["problem"]["name"])
        theta = torch.from_numpy(np.ascontiguousarray(arrays["theta"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a checkpoint of a kanpinn run: {error}") from error
    made_with, here = meta.get("problem_file"), _own_file(name)
    if made_with != here:
        raise UserError(
            f"{folder}: solved with problem={name} from {made_with or 'the package'}, but here it would come from "
            f"{here or 'the package'}; load it from the folder it was solved in"
        )
    configuration = validate(config)
    problem, options = configuration.problem, configuration.components["backbone"]
    embedding = options.embedding.build(problem.domain, problem.periodic, np.random.default_rng(0), problem.inputs)
    if embedding.frequencies is not None:
        stored = arrays.get("embedding/frequencies", np.empty(0))
        if stored.shape != tuple(embedding.frequencies.shape):
            raise UserError(f"{path}: the frequencies of the Fourier embedding are missing or damaged")
        embedding.frequencies = torch.from_numpy(stored)
    bodies = [options.build(embedding, len(output_names(problem))) for _ in levels]
    for k, level in enumerate(levels):
        while bodies[k].level < level:
            bodies[k] = bodies[k].refined()
    backbone = bodies[0] if len(bodies) == 1 else in_sequence(embedding, tuple(bodies))
    if len(theta) != backbone.size:
        raise UserError(f"{path}: holds {len(theta)} parameters, but its config describes {backbone.size}")
    objective = Objective(
        problem, backbone, configuration.components["weighting"], exact=configuration.conditions == "exact"
    )
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError):
        metrics = {}  # interrupted before the first metrics were written: the network is still good
    return objective, theta, metrics
