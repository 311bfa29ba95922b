"""Schedules are lists of stages; stop rules say when one ends."""

from __future__ import annotations

import pytest

from kanpinn.errors import UserError
from kanpinn.multilevel import SCHEDULES, Nested, Single
from kanpinn.multilevel.schedules import StopRule


def plan(schedule) -> list[tuple[int, int, int | None]]:
    return [(stage.level, stage.steps, stage.trial) for stage in schedule.stages()]


def test_nested_goes_from_coarse_to_fine() -> None:
    assert plan(Nested(levels=3, steps=10)) == [(0, 10, None), (1, 10, None), (2, 10, None)]
    assert plan(Nested(levels=3, steps=[30, 20, 10])) == [(0, 30, None), (1, 20, None), (2, 10, None)]
    assert plan(Nested(levels=3, steps=[30, 20])) == [(0, 30, None), (1, 20, None), (2, 20, None)]
    assert plan(Nested(levels=2, steps=[30, 20, 10])) == [(0, 30, None), (1, 20, None)]


def test_single_trains_the_finest_level_with_that_levels_steps() -> None:
    assert plan(Single(levels=3, steps=[30, 20, 10])) == [(2, 10, None)]
    assert plan(Single(levels=1, steps=7)) == [(0, 7, None)]


@pytest.mark.parametrize(("cls", "first"), [(Nested, 0), (Single, 2)])
def test_several_starts_come_first_on_the_first_level(cls, first: int) -> None:
    stages = plan(cls(levels=3, steps=10, starts=3, start_steps=4))
    assert stages[:3] == [(first, 4, 0), (first, 4, 1), (first, 4, 2)]
    assert stages[3:] == plan(cls(levels=3, steps=10))


def test_a_single_start_is_no_trial() -> None:
    assert all(stage.trial is None for stage in Nested(starts=1).stages())


def test_trials_ignore_tolerance_and_plateau_and_stages_have_them() -> None:
    stages = Nested(levels=1, starts=2, tolerance=1e-3, plateau=0.1, patience=5).stages()
    assert [stage.stop for stage in stages] == [StopRule(), StopRule(), StopRule(1e-3, 0.1, 5)]


def test_tolerance_ends_at_the_first_loss_at_or_below_it() -> None:
    rule = StopRule(tolerance=1e-2)
    assert rule.met([1.0, 1.1e-2]) is None
    assert rule.met([1.0, 1e-2]) == "tolerance"
    assert rule.met([1e-3, 1.0]) is None
    assert rule.met([]) is None


def test_plateau_ends_when_recent_steps_do_not_lower_the_loss_enough() -> None:
    rule = StopRule(plateau=0.1, patience=3)
    assert rule.met([1.0, 1.0, 1.0]) is None  # too few to look back
    assert rule.met([1.0, 0.95, 0.93, 0.91]) == "plateau"
    assert rule.met([1.0, 0.95, 0.93, 0.89]) is None
    assert rule.met([1.0, 5.0, 0.5, 7.0]) is None  # a single low loss among the recent counts
    assert rule.met([0.1, 5.0, 0.5, 7.0]) == "plateau"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, r"^schedule\.levels=0: expected an integer from 1 to 12"),
        ({"levels": 13}, r"^schedule\.levels=13"),
        ({"levels": 2, "steps": [1, 0]}, r"^schedule\.steps=\[1, 0\]: expected an integer of at least 1, or a list"),
        ({"steps": []}, r"^schedule\.steps=\[\]"),
        ({"steps": 0}, r"^schedule\.steps=0: expected an integer of at least 1"),
        ({"steps": "10"}, r"^schedule\.steps=10"),
        ({"levels": 1, "steps": True}, r"^schedule\.steps=True"),
        ({"steps": 2.5}, r"^schedule\.steps=2\.5"),
        ({"starts": 0}, r"^schedule\.starts=0"),
        ({"start_steps": 0}, r"^schedule\.start_steps=0"),
        ({"patience": 0}, r"^schedule\.patience=0"),
        ({"tolerance": 0.0}, r"^schedule\.tolerance=0\.0: expected null or a number above 0"),
        ({"plateau": float("nan")}, r"^schedule\.plateau=nan"),
    ],
)
@pytest.mark.parametrize("cls", SCHEDULES.values(), ids=SCHEDULES)
def test_senseless_options_are_refused(cls, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cls(**options)
