"""Unknowns of networks in sequence whose conditions are built in: each slab's form begins where the one before ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.time_slabs import slab_networks
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.pde import Problem
from kanpinn.pde.time_slab import Fields, time_slab

Maker = Callable[[Problem, Backbone], Callable[[Tensor, Tensor, JetSpace | None], Mapping[str, Jet]]]
"""Gives the unknowns of a slab's problem and network, as a function of parameters, points and derivatives."""


def chained(problem: Problem, backbone: Backbone, theta: Tensor, make: Maker) -> list[Fields | None]:
    """Return the unknowns on each time slab as a function of points and derivatives; None for slabs not begun.

    Args:
        problem: The whole problem.
        backbone: The network of all slabs.
        theta: Its parameters `[P]`; NaN for slabs not begun.
        make: Maker of a slab's unknowns.
    """
    networks = slab_networks(backbone)
    thetas = torch.split(theta, [one.size for one in networks])
    found: list[Fields | None] = []
    before: Fields | None = None
    for k, (network, theta) in enumerate(zip(networks, thetas, strict=True)):
        if bool(theta.isnan().any()):
            found.append(None)
            continue
        slab = time_slab(problem, len(networks), k, before)
        embedding = copy(backbone.embedding)
        embedding.intervals = {**embedding.intervals, "t": slab.domain.interval("t")}
        own = make(slab, replace(network, embedding=embedding))

        def fields(points: Tensor, space: JetSpace | None = None, own=own, theta=theta) -> Mapping[str, Jet]:
            return own(theta, points, space)

        before = fields
        found.append(fields)
    return found


def by_slab(
    chain: Sequence[Fields | None], times: Tensor, interval: tuple[float, float], points: Tensor, space: JetSpace
) -> dict[str, Jet]:
    """Return the unknowns at points `[N, d]` of some times `[N]`, at a joint those of the later slab.

    Times are those of the points; on slabs not begun the values are NaN.
    """
    start, end = interval
    slab = ((times - start) * (len(chain) / (end - start))).floor().clamp(0, len(chain) - 1)
    out: dict[str, Tensor] = {}
    for k, fields in enumerate(chain):
        inside = torch.nonzero(slab == k)[:, 0]
        if fields is None or not len(inside):
            continue
        for name, jet in fields(points[inside], space).items():
            whole = out.setdefault(name, points.new_full((len(space), len(points)), torch.nan))
            whole[:, inside] = jet.data
    return {name: Jet(space, data) for name, data in out.items()}
