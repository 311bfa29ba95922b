"""Indices of derivatives: the coordinates they are taken by, read from names and cut into blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Index = tuple[str, ...]
"""Coordinates that a derivative is taken by, such as ("x", "x", "t"); () for the value."""


def index_of(name: str, coordinates: Sequence[str]) -> Index:
    """Read a derivative's name: its coordinates one after another, "xx" or "thetar", perhaps with "_" between them.

    Raises:
        ValueError: If it is not made of the coordinates, or in more than one way.
    """
    found: list[Index] = [()]
    for part in name.split("_") if name else ():
        found = [before + reading for before in found for reading in _readings(part, coordinates) if reading]
    if len(found) != 1:
        ways = "can be read in more than one way; put '_' between its" if found else "is not made of the"
        raise ValueError(f"derivative '{name}' {ways} coordinates {', '.join(coordinates)}")
    return found[0]


def _readings(text: str, coordinates: Sequence[str]) -> list[Index]:
    """Return all ways to cut a text into coordinates."""
    if not text:
        return [()]
    starts = [name for name in coordinates if text.startswith(name)]
    return [(name, *rest) for name in starts for rest in _readings(text[len(name) :], coordinates)]


def set_partitions(items: tuple[int, ...]) -> Iterable[list[tuple[int, ...]]]:
    """Yield every partition of `items` into non-empty blocks."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for partition in set_partitions(rest):
        yield [(first,), *partition]
        for k, block in enumerate(partition):
            yield [*partition[:k], (first, *block), *partition[k + 1 :]]
