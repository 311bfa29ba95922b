"""The config of a run as YAML text: read from anyone, of bounded size, without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from kanpinn.io.atomic import jsonable

_MOST_LETTERS = 2**20


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which can stand for more than memory holds, and without dates."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


_PlainLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_config(text: str) -> dict[str, Any]:
    """Read a config's YAML as nested mappings, lists and plain values.

    Raises:
        ValueError: If it is not a mapping of plain values; the message is one line.
    """
    try:
        if len(text) > _MOST_LETTERS:
            raise ValueError(f"{len(text):,} letters are more than any config has")
        found = jsonable(yaml.load(text, Loader=_PlainLoader), finite=False)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())[:120]) from None
    if not isinstance(found, dict):
        raise ValueError("not a mapping of keys")
    return found


class _PlainDumper(yaml.SafeDumper):
    """YAML that repeats a value where it occurs twice, instead of naming it."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def config_text(config: Mapping[str, Any]) -> str:
    """Return a config of plain values as YAML."""
    return yaml.dump(dict(config), Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)
