"""Progress of a run without results, as its newest whole checkpoint tells."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kanpinn.errors import UserError
from kanpinn.io.checkpoint import read_checkpoint
from kanpinn.io.config_text import read_config
from kanpinn.io.lock import held


def unfinished(folder: Path) -> dict[str, Any]:
    """Find the progress of a run without results, as a mapping that json can write.

    `under_way` (None where that cannot be told), `checkpoint` (its file's name), and of it `problem`, `level`, `step`
    and `loss`; None for what is not known.
    """
    found: dict[str, Any] = dict.fromkeys(("checkpoint", "problem", "level", "step", "loss"))
    found["under_way"] = held(folder)
    for path in sorted((folder / "checkpoints").glob("checkpoint_*.h5"), reverse=True):
        try:
            arrays, meta = read_checkpoint(path)
            found |= {"checkpoint": path.name, "problem": str(meta["config"]["problem"]["name"])}
            found |= _reached(meta["state"], arrays)
        except (UserError, KeyError, TypeError, ValueError, IndexError):
            if found["checkpoint"] is None:
                continue  # damaged: the one before it is resumed from
        break
    if found["problem"] is None:
        found["problem"] = _configured(folder / "config.yaml")
    return found


def _configured(file: Path) -> str | None:
    """The problem that a config names."""
    try:
        return str(read_config(file.read_text(encoding="utf-8"))["problem"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def told(folder: Path, found: Mapping[str, Any]) -> str:
    """Put in a line what `unfinished` found.

    Such as "unfinished: last checkpoint at level 2, step 40, loss 1.2e-05; go on with `kanpinn resume run`".
    """
    if found["checkpoint"] is None:
        text = "no checkpoint yet"
    elif found["level"] is None:
        text = f"last checkpoint {found['checkpoint']}"
    else:
        loss = "" if found["loss"] is None else f", loss {found['loss']:.3g}"
        text = f"last checkpoint at level {found['level']}, step {found['step']}{loss}"
    if found["under_way"]:
        return f"still under way: {text}"
    return f"unfinished: {text}; go on with `kanpinn resume {shlex.quote(str(folder))}`"


def _reached(state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Level, steps and loss of a state, its arrays apart."""
    slab = state["slabs"][-1]
    tables = [state["history"]]
    tables += [trial["rows"] for trial in state["trials"]]
    if slab["underway"] is not None:
        tables.append(slab["underway"]["rows"])
    rows = [(table["columns"], arrays[table["values"]["$array"]]) for table in tables]
    last = next((pair for pair in reversed(rows) if len(pair[1])), None)
    loss = None if last is None else float(last[1][-1, last[0].index("loss")])
    return {
        "level": None if slab["stage"] is None else int(slab["stage"]["level"]),
        "step": sum(len(values) for _, values in rows),
        "loss": loss if loss is not None and np.isfinite(loss) else None,
    }
