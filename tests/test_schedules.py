"""Schedules are lists of stages; stop rules say when one ends."""

from __future__ import annotations

import itertools
import math

import pytest

from kanpinn.errors import UserError
from kanpinn.multilevel import SCHEDULES
from kanpinn.multilevel.schedules import Custom, Fmg, Nested, Single, VCycle, WCycle
from kanpinn.multilevel.stages import StopRule, visits


def plan(schedule) -> list[tuple[int, int, int | None]]:
    return [(stage.level, stage.steps, stage.trial) for stage in schedule.plan()]


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
    assert all(stage.trial is None for stage in Nested(starts=1).plan())


def test_trials_ignore_tolerance_and_plateau_and_stages_have_them() -> None:
    stages = Nested(levels=1, starts=2, tolerance=1e-3, plateau=0.1, patience=5).plan()
    assert [stage.stop for stage in stages] == [StopRule(), StopRule(), StopRule(1e-3, 0.1, 5)]


def test_plateau_ends_when_recent_steps_do_not_lower_the_loss_enough() -> None:
    rule = StopRule(plateau=0.1, patience=3)
    assert not rule.plateaued([1.0, 1.0, 1.0])  # too few to look back
    assert rule.plateaued([1.0, 0.95, 0.93, 0.91])
    assert not rule.plateaued([1.0, 0.95, 0.93, 0.89])
    assert not rule.plateaued([1.0, 5.0, 0.5, 7.0])  # a single low loss among the recent counts
    assert rule.plateaued([0.1, 5.0, 0.5, 7.0])
    assert not StopRule(plateau=0.5, patience=1).plateaued([1.0, 0.5])  # less than the share is asked for
    assert [rule.plateaued([1.0] * n, 2) for n in (8, 9)] == [False, True]  # four draws of two steps
    assert not StopRule(patience=1).plateaued([1.0] * 9)


def levels_of(schedule) -> list[int]:
    return [stage.level for stage in schedule.plan()]


V = {
    2: [1, 0, 1],
    3: [2, 1, 0, 1, 2],
    4: [3, 2, 1, 0, 1, 2, 3],
    5: [4, 3, 2, 1, 0, 1, 2, 3, 4],
}
W = {
    2: [1, 0, 1],
    3: [2, 1, 0, 1, 0, 1, 2],
    4: [3, 2, 1, 0, 1, 0, 1, 2, 1, 0, 1, 0, 1, 2, 3],
}
W[5] = [4, *W[4], *W[4][1:], 4]
F = {
    2: [0, 1, 0, 1],
    3: [0, 1, 0, 1, 2, 1, 0, 1, 2],
    4: [0, 1, 0, 1, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3],
    5: [0, 1, 0, 1, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3, 4],
}


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_cycle_visits_are_the_textbooks(levels: int) -> None:
    assert levels_of(VCycle(levels=levels, cycles=1)) == V[levels]
    assert levels_of(WCycle(levels=levels, cycles=1)) == W[levels]
    assert levels_of(Fmg(levels=levels)) == F[levels]


def test_a_w_cycle_visits_level_l_as_often_as_two_recursions_say() -> None:
    path = visits(4, 2)
    assert path.count(0) == 8
    assert all(abs(a - b) == 1 for a, b in itertools.pairwise(path))


def test_cycles_follow_each_other_without_a_break_on_the_finest_level() -> None:
    assert plan(VCycle(levels=2, cycles=2, pre=3, post=4, coarsest=9)) == [
        (1, 3, None),
        (0, 9, None),
        (1, 7, None),
        (0, 9, None),
        (1, 4, None),
    ]
    assert [steps for _, steps, _ in plan(VCycle(levels=3, cycles=1, pre=[0, 1, 2], post=[0, 5, 6]))] == [
        2,
        1,
        20,
        5,
        6,
    ]


def test_full_multigrid_without_cycles_is_nested_iteration() -> None:
    assert plan(Fmg(levels=3, steps=[7, 6, 5], cycles=0)) == plan(Nested(levels=3, steps=[7, 6, 5]))


def test_full_multigrid_cycles_where_it_is_told_to() -> None:
    top = Fmg(levels=3, steps=[7, 6, 5], cycles=[0, 0, 2], pre=1, post=2, coarsest=4)
    assert [(stage.level, stage.steps) for stage in top.plan()] == [
        *((0, 7), (1, 6), (2, 6)),
        *((1, 1), (0, 4), (1, 2), (2, 3)),
        *((1, 1), (0, 4), (1, 2), (2, 2)),
    ]


def test_optimizers_are_chosen_by_level_and_the_last_serves_the_rest() -> None:
    chosen = ["levenberg_marquardt", {"name": "adam", "lr": 0.1}]
    assert [s.optimizer for s in Nested(levels=3, optimizers=chosen).plan()] == [chosen[0], chosen[1], chosen[1]]
    assert [s.optimizer for s in VCycle(levels=2, cycles=1, optimizers=chosen).plan()] == [
        chosen[1],
        chosen[0],
        chosen[1],
    ]


def test_a_free_list_of_stages() -> None:
    given = [{"level": 1, "steps": 5}, {"level": 0, "steps": 3, "optimizer": "lbfgs"}, {"level": 2, "steps": 0}]
    schedule = Custom(stages=given, optimizers=["adam"])
    assert plan(schedule) == [(1, 5, None), (0, 3, None), (2, 0, None)]
    assert [stage.optimizer for stage in schedule.plan()] == ["adam", "lbfgs", "adam"]
    assert schedule.levels == 3


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], r"^schedule\.stages=\[\]: expected a list"),
        ([3], r"^schedule\.stages\[0\]=3: expected a mapping"),
        ([{"level": 0}], r"^schedule\.stages\[0\]\.steps=null"),
        ([{"level": 0, "steps": 2}, {"level": -1, "steps": 2}], r"^schedule\.stages\[1\]\.level=-1"),
        ([{"level": 0, "steps": True}], r"^schedule\.stages\[0\]\.steps=true"),
        ([{"level": 0, "step": 2}], r"^schedule\.stages\[0\]=step: unknown\. Did you mean 'steps'\?"),
    ],
)
def test_senseless_stages_are_refused(stages: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Custom(stages=stages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cycles": 0}, r"^schedule\.cycles=0: expected a whole number from 1 to 10000"),
        ({"pre": -1}, r"^schedule\.pre=-1: expected a whole number of at least 0"),
        ({"post": [1, 2.5]}, r"^schedule\.post=\[1,2\.5\]"),
        ({"coarsest": 0}, r"^schedule\.coarsest=0"),
        ({"pre": []}, r"^schedule\.pre=\[\]: expected one number, or one per level"),
        ({"post": []}, r"^schedule\.post=\[\]: expected one number, or one per level"),
        ({"layers": "first"}, r"^schedule\.layers=first: unknown"),
        ({"radius": 0.0}, r"^schedule\.radius=0\.0: expected null or a number above 0"),
        ({"coarse": "galerkn"}, r"^schedule\.coarse=galerkn: unknown\. Did you mean 'galerkin'\?"),
    ],
)
@pytest.mark.parametrize("cls", [VCycle, WCycle])
def test_senseless_cycles_are_refused(cls, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cls(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, r"^schedule\.levels=0: expected a whole number from 1 to 12"),
        ({"levels": 13}, r"^schedule\.levels=13"),
        ({"optimizer_state": "rest"}, r"^schedule\.optimizer_state=rest: unknown\. Did you mean 'reset'\?"),
        ({"optimizers": []}, r"^schedule\.optimizers=\[\]"),
        ({"levels": 2, "steps": [1, 0]}, r"^schedule\.steps=\[1,0\]: expected a whole number of at least 1 or a list"),
        ({"steps": []}, r"^schedule\.steps=\[\]"),
        ({"steps": 0}, r"^schedule\.steps=0: expected a whole number of at least 1"),
        ({"steps": "10"}, r"^schedule\.steps='10'"),
        ({"levels": 1, "steps": True}, r"^schedule\.steps=true"),
        ({"steps": 2.5}, r"^schedule\.steps=2\.5"),
        ({"starts": 0}, r"^schedule\.starts=0"),
        ({"start_steps": 0}, r"^schedule\.start_steps=0"),
        ({"patience": 0}, r"^schedule\.patience=0"),
        ({"tolerance": 0.0}, r"^schedule\.tolerance=0\.0: expected null or a number above 0"),
        ({"plateau": float("nan")}, r"^schedule\.plateau=nan"),
    ],
)
@pytest.mark.parametrize("cls", [SCHEDULES[name] for name in ("single", "nested", "fmg")])
def test_senseless_options_are_refused(cls, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cls(**options)


def test_full_multigrid_starts_on_the_coarsest_level_and_names_what_is_empty() -> None:
    stages = Fmg(levels=2, steps=[7, 6], cycles=[5, 1], pre=1, post=[9, 2], coarsest=4, starts=2, start_steps=3)
    assert plan(stages) == [(0, 3, 0), (0, 3, 1), (0, 7, None), (1, 7, None), (0, 4, None), (1, 2, None)]
    for key in ("steps", "cycles", "pre", "post"):
        with pytest.raises(UserError, match=rf"^schedule\.{key}=\[\]: expected one number, or one per level"):
            Fmg(levels=2, **{key: []})


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [("level", 0, 11), ("steps", 0, 10**9), ("widen", 1, 1000), ("deepen", 1, 1000), ("rank", 1, 1000)],
)
def test_numbers_of_stages_are_taken_up_to_the_ends_of_their_ranges(key: str, least: int, most: int) -> None:
    def given(value) -> Custom:
        return Custom(stages=[{"level": 0, "steps": 5}, {"level": 0, "steps": 5, key: value}])

    for value in (least, most):
        last = given(value).plan()[1]
        assert (last.edits or ((key, getattr(last, key, None)),)) == ((key, value),)
    more = ", or a list of them, one per hidden layer" if key == "widen" else ""
    for value in (least - 1, most + 1, float(most), "1", None):
        with pytest.raises(
            UserError, match=rf"^schedule\.stages\[1\]\.{key}=.*: expected .* {least} to {most}{more}\.$"
        ):
            given(value)
    if key == "widen":
        for taken in ([1], [0, 1000], (2, 0)):
            assert given(taken).plan()[1].edits == (("widen", tuple(taken)),)
        for refused in ([0], [0, 0], [-1, 2], [1001, 1], [], [1, 2.0]):
            with pytest.raises(UserError, match=r"^schedule\.stages\[1\]\.widen="):
                given(refused)


def test_knots_to_be_inserted_are_numbers_inside_the_domain() -> None:
    def given(value) -> Custom:
        return Custom(stages=[{"level": 0, "steps": 5}, {"level": 0, "steps": 5, "insert": value}])

    for taken in ([0.5], [-0.75, 0], 0.25):
        expected = tuple(taken) if isinstance(taken, list) else taken
        assert given(taken).plan()[1].edits == (("insert", expected),)
    for refused in ([], [1.0], -1, ["a"], [True], None, "0.5", [math.nan]):
        with pytest.raises(UserError, match=r"^schedule\.stages\[1\]\.insert=.*: expected knots between -1 and 1"):
            given(refused)


def test_changes_of_a_network_stand_where_one_is_trained_and_none_waits() -> None:
    first, wide = {"level": 1, "steps": 5}, {"level": 1, "steps": 5, "widen": 1, "deepen": 2}
    found = Custom(stages=[first, wide, {"level": 0, "steps": 1}, {"level": 1, "steps": 1, "rank": 3}])
    assert [stage.edits for stage in found.plan()] == [(), (("widen", 1), ("deepen", 2)), (), (("rank", 3),)]
    assert found.levels == 2 and found.coarse_problem == ("galerkin", 0.01, "all")
    for stages, more, told in (
        ([wide], {}, r"stages\[0\]\.widen=1: expected no change in the first stage"),
        ([first, {**wide, "level": 0}], {}, r"stages\[1\]\.widen=1: expected no change on a level below"),
        ([first, {"level": 2, "steps": 1}, wide], {}, r"stages\[2\]\.widen=1: expected no change on a level below"),
        ([first, wide], {"slabs": 2}, r"stages\[1\]\.widen=1: expected no change of the network with schedule\.slabs"),
    ):
        with pytest.raises(UserError, match=rf"^schedule\.{told}"):
            Custom(stages=stages, **more)


def test_a_curriculum_has_a_value_for_every_level_but_some_of_the_finest() -> None:
    schedule = Nested(levels=3, curriculum={"nu": [0.1, 0.2], "k": [5.0]})
    assert [schedule.coefficients(level) for level in range(3)] == [{"nu": 0.1, "k": 5.0}, {"nu": 0.2}, {}]
    assert Nested(levels=3).coefficients(0) == {} and VCycle(levels=3).coefficients(0) == {}
    for levels, values, told in (
        (3, [], "one value per level but the finest, 1 to 2 of them"),
        (3, [1.0, 2.0, 3.0], "one value per level but the finest, 1 to 2 of them"),
        (2, [1.0, 2.0], "one value per level but the finest, 1 to 1 of them"),
        (1, [1.0], r"null, or schedule\.levels of at least 2: the only level is the finest"),
    ):
        with pytest.raises(UserError, match=rf"^schedule\.curriculum\.nu=\[.*\]: expected {told}"):
            Nested(levels=levels, curriculum={"nu": values})
