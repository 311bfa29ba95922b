"""Options: one declaration gives default, check, message and help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from kanpinn.errors import UserError
from kanpinn.options import Options, build, explained, option


@dataclass
class Inner(Options):
    key: ClassVar[str] = "outer.inner"

    kind: str = option("soft", "how", one_of=("soft", "hard"))


@dataclass
class Outer(Options):
    key: ClassVar[str] = "outer"

    rate: float = option(0.5, "a rate", above=0, at_most=1)
    share: float = option(0.0, "a share", at_least=0, below=1)
    ratio: float = option(0.5, "a ratio", above=0, below=1)
    count: int | list[int] = option(3, "one number, or one per level", at_least=1)
    limit: float | None = option(None, "a limit", above=0)
    names: dict[str, int] = option({}, "by name", at_least=1, at_most=9)
    inner: Inner = option(factory=Inner)

    def check(self) -> None:
        if self.share > self.rate:
            raise UserError(f"outer.share={self.share}: more than outer.rate")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 0.0}, "outer.rate=0.0: expected a number above 0 and up to 1."),
        ({"rate": 1.5}, "outer.rate=1.5: expected a number above 0 and up to 1."),
        (
            {"rate": "0.4"},
            "outer.rate='0.4': expected a finite number; a number in quotes is text, write it without them.",
        ),
        ({"share": 1.0}, "outer.share=1.0: expected a number from 0 to below 1."),
        ({"share": -1e-300}, "outer.share=-1e-300: expected a number from 0 to below 1."),
        ({"ratio": 0.0}, "outer.ratio=0.0: expected a number between 0 and 1."),
        ({"ratio": float("nan")}, "outer.ratio=nan: expected a finite number."),
        ({"count": 0}, "outer.count=0: expected a whole number of at least 1 or a list of them."),
        ({"count": [2, 0]}, "outer.count=[2,0]: expected a whole number of at least 1 or a list of them."),
        ({"count": True}, "outer.count=true: expected a whole number or a list of whole numbers."),
        ({"limit": 0}, "outer.limit=0.0: expected null or a number above 0."),
        ({"names": {"t": 12}}, "outer.names.t=12: expected a whole number from 1 to 9."),
        (
            {"inner": {"kind": "sotf"}},
            "outer.inner.kind=sotf: unknown. Did you mean 'soft'? Valid choices: hard, soft.",
        ),
        ({"share": 0.75}, "outer.share=0.75: more than outer.rate"),
        ({"raet": 1.0}, "outer.raet=1.0: unknown key. Did you mean 'outer.rate'? Valid keys of outer: "),
    ],
)
def test_a_wrong_value_gets_one_line_from_python_and_from_a_config(values, message):
    with pytest.raises(UserError) as error:
        build(Outer, values, "outer")
    assert str(error.value).startswith(message)
    if "raet" not in values and "inner" not in values:
        with pytest.raises(UserError) as error:
            Outer(**values)
        assert str(error.value) == message


@pytest.mark.parametrize("values", [{"rate": 1.0}, {"share": 0.0}, {"count": [1, 7]}, {"names": {"t": 9}}])
def test_the_ends_of_a_range_belong_to_it_where_it_says_so(values):
    Outer(**values)


def test_values_get_the_declared_type_and_defaults_are_not_shared():
    outer = Outer(rate=np.int64(1), count=(2, 3))
    assert (outer.rate, type(outer.rate), outer.count) == (1.0, float, [2, 3])
    outer.names["x"] = 1
    assert Outer().names == {}


def test_every_option_is_explained_by_its_full_key():
    found = {key: (words, text) for key, words, text in explained(Outer, "outer")}
    assert list(found) == [
        f"outer.{key}" for key in ("rate", "share", "ratio", "count", "limit", "names", "inner.kind")
    ]
    assert found["outer.limit"] == ("null or a number above 0", "a limit")
    assert found["outer.inner.kind"] == ("one of soft, hard", "how")
