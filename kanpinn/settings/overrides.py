"""Overrides that are read without composing a config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kanpinn.settings.compose import parse, single_value


def single_values(overrides: Sequence[str]) -> dict[str, Any]:
    """Return overrides as values by dotted key; raises UserError if one is no `key=value` with one value."""
    found = {}
    for override in parse(overrides):
        key = override.key_or_group
        found[key] = single_value(override, key)
    return found
