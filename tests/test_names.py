"""Names of a problem's parts: refused before a run where its files could not hold them, else found in those files."""

import dataclasses
import re

import h5py
import pytest

import kanpinn as package
from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.io.schema import SOLUTION
from kanpinn.pde import Condition, Problem
from kanpinn.run.names import check_equations
from kanpinn.run.preflight import check_class

TINY = [
    *("threads=1", "schedule.levels=1", "schedule.steps=1", "backbone.width=[2]", "backbone.grid=2", "sampler=uniform"),
    *("sampler.interior=20", "sampler.boundary=8", "output.points=5", "output.figures=false", "output.progress=false"),
]


def problem(unknowns=("u",), coordinate="x", equations=None, condition="edge", **attributes) -> Problem:
    """Solve w″ = 0 for each unknown w in one coordinate, w = 0 at its lower end; all names as asked for."""

    def residual(self, p):
        found = [getattr(p, f"{name}_{2 * coordinate}") for name in unknowns]
        return found[0] if equations is None else dict.fromkeys(equations, sum(found))

    def conditions(self):
        return [Condition(condition, f"{coordinate}-", lambda p: getattr(p, unknowns[0]))]

    body = {"residual": residual, "conditions": conditions, "__module__": __name__, "__annotations__": {}}
    body |= {"domain": Box(**{coordinate: (0, 1)}), "unknowns": unknowns, "derivatives": (2 * coordinate,)}
    return dataclasses.dataclass(frozen=True)(type("Named", (Problem,), body | attributes))()


def refused(*words, **parts) -> None:
    with pytest.raises(UserError) as raised:
        check_class(problem(**parts))
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 300
    for word in words:
        assert word in text, text


TAKEN = sorted(item.path[1:] for item in SOLUTION if re.fullmatch(r"/[a-zA-Z]+", item.path))


def test_the_file_has_names_of_its_own():
    assert {"history", "levels", "spectrum", "points", "metrics", "model", "VTKHDF", "residual"} <= set(TAKEN)


@pytest.mark.parametrize("name", TAKEN)
def test_an_unknown_or_a_coordinate_takes_no_name_of_the_file(name):
    refused(f"unknown '{name}'", "taken in solution.h5", unknowns=("u", name))
    refused(f"coordinate '{name}'", "taken in solution.h5", coordinate=name)


@pytest.mark.parametrize("name", ["point", "residual"])
def test_a_coordinate_takes_no_name_among_the_points(name):
    refused(f"coordinate '{name}'", "taken in solution.h5", coordinate=name)


@pytest.mark.parametrize(
    "unknowns",
    [("u", "u_ref"), ("u", "u_error"), ("u", "x"), ("u", "u"), ("u", "U"), ("u", "v" * 65), ("ü",), ("u\n",)],
)
def test_unknowns_that_cannot_be_told_apart_or_written(unknowns):
    refused("unknown", unknowns=unknowns)


@pytest.mark.parametrize("name", ["grad", "laplace", "div", "integral"])
def test_no_name_hides_what_points_have(name):
    refused(f"unknown {name}: p.{name} has a meaning", unknowns=("u", name))
    refused(f"coordinate {name}: p.{name} has a meaning", coordinate=name)


NAMES = ["a/b", "/", ".", "..", "", " ", " a", "a\x00", "a\nb", "\x1b[2J", "\ud800", "a" * 65, 7, None]


@pytest.mark.parametrize("name", NAMES, ids=map(ascii, NAMES))
def test_an_equation_or_a_condition_with_such_a_name(name):
    with pytest.raises(UserError, match="equation"):
        check_equations("problem=x", [name, "b"])
    refused("condition", condition=name)


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"equation": "u\x00"}, "equation: "),
        ({"equation": 3}, "equation: 3"),
        ({"labels": {"x": ("a\x00b", "m")}}, "long name of x"),
        ({"labels": {"x": ("a", "\ud800")}}, "unit of x"),
        ({"labels": {"x": "position"}}, "labels: 'x'"),
        ({"labels": {"x": ("position",)}}, "labels: 'x'"),
        ({"labels": {"x": ("position", 3)}}, "unit of x"),
        ({"labels": {"z": ("height", "m")}}, "labels: 'z'"),
        ({"labels": ["x"]}, "labels must be a mapping"),
    ],
)
def test_texts_that_no_file_takes(attributes, word):
    refused(word, **attributes)


def test_a_run_is_refused_before_its_folder_is_there(folder):
    for parts in ({"equations": ("a/b", "c")}, {"unknowns": ("u", "spectrum")}, {"condition": "a/b"}):
        with pytest.raises(UserError):
            package.solve(problem(**parts), *TINY, folder="run")
        assert not (folder / "run").exists()


@pytest.mark.filterwarnings("ignore:.*no condition holds")
def test_odd_names_that_can_be_written_are_found_again(kanpinn, folder):
    made = problem(("T", "step", "wave"), "theta", ("mass balance", "ref", "error", "div(σ) = 0"), "entry")
    solution = package.solve(made, *TINY, "problem.conditions=soft", folder="run")
    assert set(solution([[0.5]])) == {"T", "step", "wave"}
    with h5py.File("run/solution.h5") as file:
        assert {"T", "step", "theta", "residual_mass balance", "residual_ref", "residual_error"} <= set(file)
        assert {"term_entry", "term_interior"} <= set(file["history"])
    checked = kanpinn("inspect", "run", "--check")
    assert (checked.code, checked.err) == (0, "")
