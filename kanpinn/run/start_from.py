"""Earlier solve that a new one goes on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kanpinn.errors import UserError
from kanpinn.run import checkpoints
from kanpinn.settings.configuration import Configuration
from kanpinn.solution import Solution


def started(configuration: Configuration, start: Solution | None = None) -> tuple[Configuration, list[str]]:
    """Let a solve go on from an earlier one, where it is to, and say how in a line; raises UserError."""
    place = configuration.settings.start
    if (start is None and place is None) or configuration.setup.start is not None:
        return configuration, []
    from kanpinn.solver import start as solver_start

    try:
        folder = Path(str(place))
        earlier = start or Solution(*checkpoints.restore(folder), folder)
    except UserError as error:
        raise UserError(f"start={error}" if str(error).startswith(str(place)) else f"start={place}: {error}") from None
    where = str(earlier.folder or "the solution given")
    setup, words = solver_start.started(configuration.setup, earlier.residuals, earlier.theta, where)
    resolved = {**configuration.resolved, "start": where}
    return replace(configuration, setup=setup, resolved=resolved), [f"begins {words}"]
