"""A run's network with functions on its edges, as a new run, and the formula that it then is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from kanpinn.errors import UserError
from kanpinn.io.atomic import write_text
from kanpinn.pde.table import Table
from kanpinn.run.prune import again, continued, opened
from kanpinn.run.run import run
from kanpinn.solution import Solution
from kanpinn.solver.fixing import Fixed, expressions_of, fixed

RECORD = "symbolic.json"
"""File of such a run: what was tried on which edge, and the errors before and after."""


def fix_edges(
    folder: Path,
    target: Path,
    *,
    forms: Sequence[str] = (),
    seconds: float = np.inf,
    stored: bool | None = None,
    tell: Callable[[Fixed], None] = lambda _: None,
) -> tuple[Solution, dict[str, Any] | None] | None:
    """Put functions on the edges of a run's network, one by one, and train it on in a new run.

    Args:
        folder: The run folder.
        target: Folder of the new run, new or empty.
        forms: Further functions of x.
        seconds: Processor time after which no further edge is begun.
        stored: As for `resume`.
        tell: Hears of every trial.

    Returns:
        The solution, and SymPy's expression of every unknown or None where edges are left; None, and no new run, where
        no function fits any edge.

    Raises:
        UserError: If the folder is no run, its network has no edges of splines, or its targets are classes.
    """
    configuration, start = opened(folder, target, stored)
    if isinstance(start.setup.problem, Table) and start.setup.problem.classes:
        raise UserError(f"{folder}: its targets are classes; functions are looked for in fits of numbers only")
    trials: list[Fixed] = []

    def heard(trial: Fixed) -> None:
        trials.append(trial)
        tell(trial)

    try:
        found = fixed(start, forms=forms, seconds=seconds, tell=heard)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    if not any(trial.kept for trial in trials):
        return None
    solution = run(continued(configuration, found, folder), target, spoken=False)
    found = replace(found, network=solution.residuals.backbone, theta=solution.theta)
    record = {
        "run": str(folder.absolute()),
        "symbolic": list(getattr(found.setup.backbone, "symbolic", [])),
        "edges": found.edges,
        "validation": {"before": start.error, "after": again(found, found.theta)},
        "trials": [asdict(trial) for trial in trials],
    }
    write_text(target / RECORD, json.dumps(record, indent=1, ensure_ascii=False))
    return solution, expressions_of(found)
