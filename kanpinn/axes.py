"""Order of the axes of fields on a grid, the same in memory, in files and in figures."""

from __future__ import annotations

from collections.abc import Iterable


def field_axes(names: Iterable[str]) -> tuple[str, ...]:
    """Order coordinate names as a stored field's axes: time first, x, y and z last, each group in reverse order."""
    return tuple(sorted(names, key=lambda name: (name != "t", name in tuple("xyz"), [-ord(letter) for letter in name])))
