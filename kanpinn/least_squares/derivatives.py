"""Derivatives of terms and forms, held against differences of their values."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.trial import Trial, field_name
from kanpinn.pde.problem import output_names


def check_derivatives(
    trial: Trial, several: list[Tensor], derivatives: Mapping[str, Tensor], met: Collection[str]
) -> None:
    """Refuse equations whose derivatives are not those of their values, at most of the points where they are seen.

    Differences of one component of the outputs after the other, with two lengths of step: only where both agree do
    they tell a derivative, neither rounding nor a kink.
    """
    base = torch.cat(several, dim=2)
    c, s, m, o = base.shape
    size = base.abs().amax(dim=2, keepdim=True)
    size = torch.where(size > 0, size, torch.ones_like(size))
    components = c * s * o
    unit = base.new_ones(components).diag().view(components, c, s, 1, o) * size
    steps = [k * torch.finfo(base.dtype).eps ** 0.25 for k in (1.0, -1.0, 0.3, -0.3)]
    moved = torch.stack([base + step * unit for step in steps])  # (4, components, C, S, M, outputs)
    outputs = moved.permute(2, 3, 0, 1, 4, 5).reshape(c, s, -1, o)
    which = torch.arange(trial.count).repeat(2 * len(steps) * components)
    with torch.no_grad():
        values = trial.values(outputs, which)
    for equation, value in values.items():
        if equation in met:
            continue
        r = value.view(len(steps), components, m)
        quotients = [(r[k] - r[k + 1]) / (steps[k] - steps[k + 1]) for k in (0, 2)]
        own = derivatives[equation][:, :, :2].flatten(2, 3) * size
        own = own.permute(0, 1, 3, 2).reshape(components, m).to(r)
        floor = 200 * torch.finfo(r.dtype).eps / steps[2] * r.abs().amax(dim=(0, 1))
        for k in _wrong(quotients[0], quotients[1], own, floor):
            unravelled = np.unravel_index(k, (c, s, o))
            name = _component(trial.residuals, int(unravelled[0]), int(unravelled[2]))
            raise trial.refusal(
                equation,
                f"changes with {name} of the network otherwise than its derivative says (detach, no_grad, .data, "
                "numpy, or a wrong backward); write it in differentiable functions of torch",
            )


def check_jets(trial: Trial, network: Backbone, theta: Tensor) -> None:
    """Refuse forms whose derivatives are not those of their values, as jets made by hand may have them.

    Differences along one coordinate after the other, told from rounding and kinks as in `check_derivatives`.
    """
    residuals, points = trial.residuals, trial.points.points
    domain, space = residuals.problem.domain, residuals.space
    steps = [k * torch.finfo(points.dtype).eps ** 0.25 for k in (1.0, -1.0, 0.3, -0.3)]
    widths = points.new_tensor(domain.upper) - points.new_tensor(domain.lower)
    for k, (name, width) in enumerate(zip(domain.names, widths, strict=True)):
        shift = widths.diag()[k]
        moved = torch.cat([points, *(points + step * shift for step in steps)])
        with torch.no_grad():
            fields = residuals.rebuilt(network.forward(theta, moved, space), moved)
        for unknown, jet in fields.items():
            own, *r = jet.data.unflatten(1, (-1, trial.count)).unbind(1)
            quotients = [(r[i] - r[i + 1]) / (steps[i] - steps[i + 1]) for i in (0, 2)]
            for a, index in enumerate(space.indices):
                higher = space.canonical((*index, name))
                if higher not in space.indices:
                    continue
                mine = width * own[space.position(higher)]
                floor = 200 * torch.finfo(mine.dtype).eps / steps[2] * torch.stack(r).abs().amax(0)[a]
                if _wrong(quotients[0][a][None], quotients[1][a][None], mine[None], floor):
                    text = (
                        "is not the derivative of its values: a jet made by hand, or one function in place of another?"
                    )
                    raise trial.refusal(field_name(unknown, higher), text)


def _wrong(coarse: Tensor, fine: Tensor, own: Tensor, floor: Tensor) -> list[int]:
    """Numbers of the components whose derivative is another than the difference quotients' at most points.

    Takes both quotients and the derivative, `[components, M]`, and the size `[M]` below which they are rounding.
    """
    loose = 0.02 if coarse.dtype == torch.float64 else 0.1
    larger = torch.maximum(own.abs(), fine.abs())
    seen = ((coarse - fine).abs() <= loose * fine.abs()) & (larger > floor)
    wrong = seen & ~((own - fine).abs() <= 3 * loose * larger)
    count = seen.sum(1)
    return torch.nonzero((2 * wrong.sum(1) > count) & (count >= min(3, len(floor))))[:, 0].tolist()


def _component(residuals: Residuals, derivative: int, output: int) -> str:
    """A component of the outputs in words, such as "u_xx"."""
    return field_name(output_names(residuals.problem)[output], residuals.space.indices[derivative])
