"""Space of a search: what overrides with several values or an interval stand for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from kanpinn.errors import UserError, one_line

if TYPE_CHECKING:
    import optuna


MOST_JOBS = 10_000
"""Combinations of values in a sweep: each is composed and checked before the first begins, some in a second."""

_LISTED = 10_000
"""Points of a finite space up to which those not tried yet are listed."""


def count(override: Override) -> int:
    """Number of values of an override, found without listing them.

    Raises:
        UserError: If there are none, no end of them, more than `MOST_JOBS`, or it does not say which they are.
    """
    if not override.is_sweep_override():
        return 1
    sweep = override.value()
    if not isinstance(sweep, RangeSweep | ChoiceSweep):
        told = "this kind of sweep is for kanpinn tune" if isinstance(sweep, IntervalSweep) else "no glob is read"
        raise UserError(f"{override.input_line}: {told}; list the values.")
    try:
        found = len(sweep.list) if isinstance(sweep, ChoiceSweep) else _steps(sweep)
    except (ArithmeticError, ValueError):  # steps of nothing, an end at infinity
        found = 0
    if found < 1:
        raise UserError(f"{override.input_line}: no values, or no end of them; expected range(a,b) with a below b.")
    if found > MOST_JOBS:
        raise UserError(f"{override.input_line}: {amount(found)} values; expected at most {MOST_JOBS:,}.")
    return found


def _steps(sweep: RangeSweep) -> int:
    start, stop, step = sweep.start or 0, sweep.stop or 0, sweep.step
    whole = all(isinstance(number, int) for number in (start, stop, step))
    return math.ceil(-((start - stop) // step) if whole else (stop - start) / step)


def amount(number: int) -> str:
    """A whole number in digits a reader can take in."""
    return f"{number:,}" if number < 10**15 else "more than 10^15"


def space(overrides: Sequence[Override]) -> dict[str, optuna.distributions.BaseDistribution]:
    """The distributions that overrides in Hydra's sweep syntax stand for, by key, for those with several values.

    `key=a,b` and `key=choice(a,b)` list values; `key=range(a,b,step)` are whole numbers (or steps) below b;
    `key=interval(a,b)` is continuous, `key=int(interval(a,b))` whole numbers from a to b; around either, `tag(log,…)`
    searches on a logarithmic scale. Raises UserError if an interval is empty, or not positive on a logarithmic scale.
    """
    found = {}
    for override in overrides:
        if override.is_sweep_override():
            try:
                found[override.key_or_group] = _distribution(override)
            except (ValueError, TypeError) as error:
                raise UserError(f"{override.input_line}: {one_line(error)}") from error
    return found


def _distribution(override: Override) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    log = "log" in getattr(sweep, "tags", ())
    unknown = set(getattr(sweep, "tags", ())) - {"log"}
    if unknown:
        raise UserError(f"{override.input_line}: tag {min(unknown)}: unknown; valid choices: log.")
    if isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        if low is None or high is None or not low < high:
            raise UserError(f"{override.input_line}: expected interval(a,b) with a below b.")
        if log and low <= 0:
            raise UserError(f"{override.input_line}: a logarithmic scale needs an interval above 0.")
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    if isinstance(sweep, RangeSweep) and all(isinstance(v, int) for v in (sweep.start, sweep.stop, sweep.step)):
        values = range(int(sweep.start or 0), int(sweep.stop or 0), int(sweep.step))
        if not values:
            raise UserError(f"{override.input_line}: expected range(a,b) with a below b.")
        low, high = sorted((values[0], values[-1]))
        return IntDistribution(low, high, log=log, step=1 if log else abs(values.step))
    if isinstance(sweep, ChoiceSweep | RangeSweep) and count(override):
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    raise UserError(f"{override.input_line}: not a search space; list values, or give interval(a,b).")


def words_of(parsed: Sequence[Override], values: Mapping[str, Any]) -> list[str]:
    """The overrides with one value each, as `kanpinn solve` takes them."""
    words = []
    for override in parsed:
        if override.is_sweep_override():
            value = values[override.key_or_group]
            words.append(f"{override.get_key_element()}={value}")  # str of a float gives it back
        else:
            words.append(str(override.input_line))
    return words


def points(spanned: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Every point of a space; None for one that is infinite or has more than some thousands."""
    columns, size = [], 1
    for distribution in spanned.values():
        if hasattr(distribution, "choices"):
            columns.append(list(distribution.choices))
            size *= len(distribution.choices)
        elif isinstance(distribution.low, int):
            columns.append(range(distribution.low, distribution.high + 1, distribution.step))
            size *= (distribution.high - distribution.low) // distribution.step + 1
        else:
            return None
    if size > _LISTED:
        return None
    return [dict(zip(spanned, values, strict=True)) for values in itertools.product(*columns)]
