"""Python calls: `kanpinn.solve`, `kanpinn.fit`, `kanpinn.compile`, `kanpinn.load`, `kanpinn.resume`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kanpinn.errors import UserError
from kanpinn.pde.problem import Problem
from kanpinn.run import run as runs
from kanpinn.solution import Solution


def solve(
    problem: Problem | Sequence[str] = (),
    *overrides: Any,
    folder: str | Path | None = None,
    start: Solution | str | Path | None = None,
) -> Solution:
    """Solve a problem.

    Args:
        problem: A problem object; or a list of the command line's overrides, such as `["problem=burgers", "seed=1"]`,
            for what `kanpinn solve` does with them.
        *overrides: With a problem object: objects such as `kanpinn.Kan(width=[6, 6])` or `kanpinn.Nested(levels=4)`,
            and texts such as "seed=1" or "backbone.grid=8".
        folder: The run folder, new or empty; None with a problem object writes nothing.
        start: A solution, or a run folder, to go on from: with another coefficient, region or network.

    Returns:
        The solution.

    Raises:
        UserError: If the input is wrong.
        UndeterminedError: If the data do not determine a coefficient; its `solution` is the whole result.
        DivergedError: If the solve failed; its `solution` is the best state so far.
        Interrupted: If a signal stopped it; its `solution` is the state reached.
    """
    begin = start if start is None or isinstance(start, Solution) else load(start)
    if isinstance(problem, Problem):
        from kanpinn.settings.objects import configuration_of_objects

        configuration = configuration_of_objects(problem, overrides)
        return runs.run(configuration, None if folder is None else Path(folder), spoken=False, start=begin)
    texts = [] if isinstance(problem, str | type) or not isinstance(problem, Sequence) else list(problem)
    if overrides or (not texts and problem != ()) or not all(isinstance(text, str) for text in texts):
        raise UserError(
            f"solve({problem!r}, …): expected a problem object, or one list of texts, such as "
            "['problem=burgers', 'seed=1']"
        )
    from kanpinn.settings.compose import compose

    config, place = compose(texts)
    return runs.run(config, place if folder is None else Path(folder), start=begin)


def fit(
    table: Any,
    target: Any,
    *overrides: Any,
    inputs: Sequence[str] = (),
    split: Sequence[float] = (0.8, 0.1, 0.1),
    folder: str | Path | None = None,
) -> Solution:
    """Fit columns of a table as functions of the others, as `kanpinn fit` does.

    Args:
        table: A file; or columns by name, as a dictionary or a data frame; or inputs `[N, d]`, called x or x1 … xd.
        target: Name of the column to be fitted, or a list of names; or its values `[N]`, called y, or `[N, c]`.
        *overrides: Texts such as "backbone.width=[5]" and "seed=1", or objects such as `kanpinn.Kan(width=[5])`.
        inputs: Columns the target is a function of; all others if empty.
        split: Shares of the rows for training, validation and test, at random by the seed.
        folder: The run folder, new or empty; None writes nothing.

    Returns:
        The solution; `metrics["data"]` has its errors at each part.

    Raises:
        UserError: If the input is wrong.
        DivergedError: As for `solve`.
        Interrupted: As for `solve`.
    """
    from kanpinn.settings.objects import configuration_of_table

    configuration = configuration_of_table(table, target, overrides, inputs, split)
    return runs.run(configuration, None if folder is None else Path(folder), spoken=False)


def compile(
    expression: Any, on: Any, *overrides: Any, products: bool = True, folder: str | Path | None = None
) -> Solution:
    """Compile a formula into a network that equals it to rounding, to be widened, deepened and trained on.

    Its edges are the formula's own functions c f(a x + b) + d, whose constants training may move.

    Args:
        expression: A formula as text or by SymPy, such as "exp(sin(pi*x) + y**2)"; of several outputs one by name each.
        on: A problem, of which the formula is the start, such as the one of a fit; or a `Box`, or intervals such as
            `{"x": (-1, 1), "y": (0, 2)}`, for a table of the formula's values.
        *overrides: As for `solve`. Nothing is trained unless a schedule is given, such as
            `kanpinn.Custom(stages=[{"level": 0, "steps": 0}, {"level": 0, "widen": 2, "steps": 50}])`.
        products: False for a network without multiplication nodes, of squares instead.
        folder: The run folder, new or empty; None writes nothing.

    Returns:
        The solution.

    Raises:
        UserError: If the formula is none, holds anything but functions of one variable, sums and products, or is no
            number somewhere in the box.
        DivergedError: As for `solve`.
        Interrupted: As for `solve`.
    """
    from kanpinn.run.compiled import compile_formula

    return compile_formula(expression, on, overrides, None if folder is None else Path(folder), products=products)


def load(run: str | Path, problem: Problem | None = None, *, stored: bool | None = None) -> Solution:
    """Load the solution in a run folder, from its newest checkpoint.

    Args:
        run: The run folder.
        problem: The problem, where it was given as an object whose class's text is not stored in the run.
        stored: True to take the problem's text stored in the run, whatever ./problems says; False never to run it, as
            it is a program; None where ./problems has no file of that name.

    Returns:
        The solution, evaluating to the same numbers as when it was written.

    Raises:
        UserError: If the folder is not a run, its files are damaged, or the problem is missing or has changed since.
    """
    return runs.load(Path(run), problem, stored=stored)


def resume(run: str | Path, *overrides: str, problem: Problem | None = None, stored: bool | None = None) -> Solution:
    """Go on with a run that was stopped, as if it had never been; a finished one is left as it is.

    Args:
        run: The run folder.
        *overrides: Texts for what may differ from then on, such as "time_limit_s=null".
        problem: As for `load`.
        stored: As for `load`.

    Returns:
        The solution.

    Raises:
        UserError: If the folder is not a run, its files are damaged, or an override may not change.
        DivergedError: As for `solve`.
        Interrupted: As for `solve`.
    """
    return runs.resume(Path(run), overrides, problem=problem, stored=stored, spoken=False)
