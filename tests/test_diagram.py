"""The schedule's picture: what stands where, checked by reading the picture back."""

from __future__ import annotations

import re

import pytest

from kanpinn.multilevel import SCHEDULES, Stage
from kanpinn.multilevel.diagram import MAX_WIDTH, diagram
from kanpinn.multilevel.stages import visits


def grid(level: int) -> int:
    return 4 * 2**level


def picture(name: str, width: int = MAX_WIDTH, **options) -> str:
    return diagram(SCHEDULES[name](**options).plan(), grid, width)


def read_back(text: str) -> list[tuple[int, str]]:
    """Level and label of each visit from left to right; every joint must touch the labels it joins."""
    lines = text.splitlines()
    indent = min(len(match[0]) for line in lines if (match := re.match(r"level \d+  grid \d+ *", line)))
    rows = [line for line in lines if not re.match(r"\d+ visits|…", line)]
    labels: dict[int, tuple[int, str, int]] = {}
    joints: dict[int, tuple[str, int]] = {}
    for k, row in enumerate(rows):
        for found in re.finditer(r"[^ ]+", row[indent:].rjust(len(row))):
            if found[0] in "╱╲":
                joints[found.start()] = (found[0], k)
            else:
                labels[found.start()] = (int(row.split()[1]), found[0], k)
    out: list[tuple[int, str]] = []
    for start in sorted(labels):
        level, label, row = labels[start]
        if out:
            joint, between = joints.pop(start - 1)
            assert out[-1][0] - level == (1 if joint == "╲" else -1)
            assert between == row + (1 if joint == "╱" else -1)
        out.append((level, label))
    assert not joints
    return out


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize(("name", "branches"), [("v_cycle", 1), ("w_cycle", 2)])
def test_a_cycle_is_drawn_as_it_is_visited(name: str, branches: int, levels: int):
    options = {"levels": levels, "cycles": 1, "pre": 3, "post": 4, "coarsest": 12}
    seen = read_back(picture(name, **options))
    path = visits(levels - 1, branches)
    assert [level for level, _ in seen] == path
    assert seen[0] == (levels - 1, "3")
    assert seen[-1] == (levels - 1, "4")
    assert all((label == "12") == (level == 0) for level, label in seen)


def test_nested_iteration_is_a_staircase_with_the_finest_level_on_top():
    text = picture("nested", levels=3, steps=[100, 60, 8])
    assert text.splitlines() == [
        "level 2  grid 16         8",
        "                        ╱",
        "level 1  grid 8       60",
        "                     ╱",
        "level 0  grid 4   100",
        "3 visits, 168 steps",
    ]


def test_full_multigrid_shows_steps_of_both_kinds_together():
    seen = read_back(picture("fmg", levels=3, steps=[15, 10, 10], pre=3, post=4, coarsest=8))
    levels = [level for level, _ in seen]
    assert levels == [0, 1, 0, 1, 2, 1, 0, 1, 2]
    assert [label for _, label in seen] == ["15", "13", "8", "4", "13", "3", "8", "4", "4"]


def test_a_single_visit_is_one_line():
    assert picture("single", levels=3, steps=70) == "level 2  grid 16  70 steps"
    assert diagram([Stage(0, 5)], {}, 80) == "level 0  5 steps"


def test_random_starts_are_one_visit_with_the_training_that_follows():
    text = picture("nested", levels=2, steps=30, starts=8, start_steps=20)
    assert read_back(text) == [(0, "8×20+30"), (1, "30")]
    assert text.endswith("2 visits, 220 steps; 8 random starts of 20 steps, the best goes on")


def test_levels_passed_through_are_drawn_as_visits_without_steps():
    stages = [{"level": 0, "steps": 9}, {"level": 2, "steps": 0}, {"level": 0, "steps": 7}]
    seen = read_back(picture("custom", stages=stages))
    assert seen == [(0, "9"), (1, "·"), (2, "·"), (1, "·"), (0, "7")]


def test_optimizers_stand_at_their_levels_only_where_they_differ():
    text = picture("nested", levels=3, optimizers=["levenberg_marquardt", {"name": "lbfgs", "memory": 5}])
    rows = [line for line in text.splitlines() if line.startswith("level")]
    assert [row.split()[4] for row in rows] == ["lbfgs", "lbfgs", "levenberg_marquardt"]
    assert "adam" not in picture("nested", levels=3, optimizers=["adam"])


@pytest.mark.parametrize("width", [40, 60, 80, 500])
@pytest.mark.parametrize(("name", "levels"), [("v_cycle", 2), ("v_cycle", 3), ("w_cycle", 3), ("fmg", 4)])
def test_a_long_schedule_keeps_within_the_width_and_counts_what_is_left_out(name: str, levels: int, width: int):
    options = {"levels": levels, "cycles": 20}
    text = picture(name, width, **options)
    lines = text.splitlines()
    assert max(map(len, lines[:-1])) <= min(width, MAX_WIDTH)
    seen = read_back(text)
    whole = [stage.level for stage in SCHEDULES[name](**options).plan()]
    assert [level for level, _ in seen] == whole[: len(seen)]
    if left := re.match(r"… and (\d+) more visits", lines[-1]):
        assert int(left[1]) == len(whole) - len(seen)
    else:
        left = re.match(r"… and (\d+) more cycles like the last", lines[-1])
        assert left
        period = (len(whole) - len(seen)) // int(left[1])
        assert whole[len(seen) :] == whole[len(seen) - period : len(seen)] * int(left[1])


def test_what_repeats_is_told_in_cycles():
    text = picture("v_cycle", 80, levels=2, cycles=20)
    shown = sum(level == 0 for level, _ in read_back(text))
    assert shown > 3
    assert f"… and {20 - shown} more cycles like the last; 41 visits, 600 steps in all" in text
    assert "more" not in picture("v_cycle", 80, levels=2, cycles=shown)
