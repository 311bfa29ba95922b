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


_LISTED = 10_000
"""Points of a finite space up to which those not tried yet are listed."""


def space(overrides: Sequence[Override]) -> dict[str, optuna.distributions.BaseDistribution]:
    """The distributions that overrides in Hydra's sweep syntax stand for.

    Args:
        overrides: `key=a,b` and `key=choice(a,b)` list values; `key=range(a,b,step)` are whole numbers (or steps) below
            b; `key=interval(a,b)` is continuous, `key=int(interval(a,b))` whole numbers from a to b; around either,
            `tag(log,…)` searches on a logarithmic scale.

    Returns:
        By key, for those that have several values.

    Raises:
        UserError: If an interval is empty, or not positive on a logarithmic scale.
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
        low, high = min(values), max(values)
        return IntDistribution(low, high, log=log, step=1 if log else abs(values.step))
    if isinstance(sweep, ChoiceSweep | RangeSweep):
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
    columns = []
    for distribution in spanned.values():
        if hasattr(distribution, "choices"):
            columns.append(list(distribution.choices))
        elif isinstance(distribution.low, int):
            columns.append(range(distribution.low, distribution.high + 1, distribution.step))
        else:
            return None
    if math.prod(map(len, columns)) > _LISTED:
        return None
    return [dict(zip(spanned, values, strict=True)) for values in itertools.product(*columns)]
