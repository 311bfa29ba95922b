"""Growth of layers: wider ones in place of old ones, those without some of their edges too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kanpinn.backbones.layer import Layer
from kanpinn.backbones.masks import ends_of
from kanpinn.backbones.parallel import Parallel


class Grown(NamedTuple):
    """A layer in place of an old one with fewer nodes, or a new layer.

    Attributes:
        layer: The layer.
        source: Number of the old layer among those of its network; None for a new layer, which is the identity.
        rows: Numbers of the old outputs among the new ones.
        columns: Numbers of the old inputs among the new ones.
        quiet: True if the new outputs begin as zero.
        parts: The factor networks' layers, if it is made of such.
        beside: Layers that stand side by side in it, if it is made of such.
    """

    layer: Layer
    source: int | None
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    quiet: bool = False
    parts: Sequence[list[Grown]] = ()
    beside: Sequence[Grown] = ()


def ends(layer: Layer) -> tuple[int, int]:
    """Return the numbers of inputs and outputs of a layer with parameters."""
    ends = ends_of(layer)
    assert ends is not None
    return ends[1], ends[0]


def beside(layer: Parallel, grown: Grown, inputs: int, outputs: int) -> Grown:
    """Return a layer without some of its edges, with all those from and to new nodes beside it.

    Those to old nodes are zero.
    """
    before, after = ends(layer)
    rows = np.arange(after) if grown.rows is None else grown.rows
    columns = np.arange(before) if grown.columns is None else grown.columns
    further = [np.setdiff1d(np.arange(count), old) for count, old in ((inputs, columns), (outputs, rows))]
    added = [(further[0], rows, True), (np.arange(inputs), further[1], False)]
    added = [one for one in added if len(one[0]) and len(one[1])]
    new = [layer.resized(len(p), len(q)) for p, q, _ in added]
    start = len(layer.layers)
    found = replace(
        layer,
        names=(*layer.names, *(f"added_{start + k}" for k in range(len(added)))),
        layers=(*layer.layers, *new),
        coordinates=(*layer.coordinates, *(layer.coordinates[0] for _ in added)),
        inputs=(*(tuple(columns[list(p)].tolist()) for p in layer.inputs), *(tuple(p.tolist()) for p, _, _ in added)),
        outputs=(*(tuple(rows[list(q)].tolist()) for q in layer.outputs), *(tuple(q.tolist()) for _, q, _ in added)),
        whole=layer.resized(inputs, outputs),
    )
    parts = [Grown(one, grown.source) for one in layer.layers]
    nobody = np.empty(0, dtype=int)
    parts += [Grown(one, grown.source, nobody, quiet=zero) for one, (_, _, zero) in zip(new, added, strict=True)]
    return Grown(found, grown.source, beside=parts)
