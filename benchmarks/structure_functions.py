"""Twenty functions with known structure, written down before any network was fitted to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import cos, exp, log, pi, sin, sqrt, tanh


@dataclass(frozen=True)
class Known:
    """A function on a box and the tree of its structure.

    Attributes:
        name: Its formula.
        value: Its values `[N]`, from one array `[N]` per coordinate.
        box: Interval of each coordinate.
        form: The tree in one line, as `kanpinn.explain.tree.Node.form` writes it; its numbers hold to 5 %.
    """

    name: str
    value: Callable[..., np.ndarray]
    box: dict[str, tuple[float, float]]
    form: str


def _box(names: str, low: float, high: float) -> dict[str, tuple[float, float]]:
    return dict.fromkeys(names.split(), (low, high))


KNOWN = (
    Known("exp(sin(pi x) + y^2)", lambda x, y: exp(sin(pi * x) + y**2), _box("x y", -1, 1), "product(x, y)"),
    Known("x y", lambda x, y: x * y, _box("x y", -1, 1), "product(x, y)"),
    Known("x^2 + cos(3 y)", lambda x, y: x**2 + cos(3 * y), _box("x y", -1, 1), "sum(x, y)"),
    Known("tanh(2 x - 3 t)", lambda x, t: tanh(2 * x - 3 * t), _box("x t", -1, 1), "x - 1.5 t"),
    Known("sqrt(x^2 + y^2)", lambda x, y: sqrt(x**2 + y**2), _box("x y", 0.2, 1.2), "x^2 + y^2"),
    Known(
        "1/sqrt(x^2 + y^2 + z^2)",
        lambda x, y, z: 1 / sqrt(x**2 + y**2 + z**2),
        _box("x y z", 0.3, 1.3),
        "x^2 + y^2 + z^2",
    ),
    Known(
        "(x^2 + y^2)^2 + (z^2 + w^2)^2",
        lambda x, y, z, w: (x**2 + y**2) ** 2 + (z**2 + w**2) ** 2,
        _box("x y z w", -1, 1),
        "sum(x^2 + y^2, z^2 + w^2)",
    ),
    Known("x sin(2 y) + z^2", lambda x, y, z: x * sin(2 * y) + z**2, _box("x y z", -1, 1), "sum(product(x, y), z)"),
    Known("log(1 + exp(2 x) + y^2)", lambda x, y: log(1 + exp(2 * x) + y**2), _box("x y", -1, 1.5), "general(x, y)"),
    Known("(u + v)/(1 + u v)", lambda u, v: (u + v) / (1 + u * v), _box("u v", -0.8, 0.8), "general(u, v)"),
    Known(
        "exp(-x^2/(2 s^2))/s",
        lambda x, s: exp(-(x**2) / (2 * s**2)) / s,
        {"x": (-2.0, 2.0), "s": (0.6, 1.6)},
        "none(x, s)",
    ),
    Known("m n/r^2", lambda m, n, r: m * n / r**2, _box("m n r", 0.5, 1.5), "product(m, n, r)"),
    Known("z exp(-(x - y)^2)", lambda x, y, z: z * exp(-((x - y) ** 2)), _box("x y z", -1, 1), "product(x - y, z)"),
    Known("cos(x y + z)", lambda x, y, z: cos(x * y + z), _box("x y z", 0.2, 1.2), "x y + z"),
    Known(
        "y sin(2 x) + exp(x z)",
        lambda x, y, z: y * sin(2 * x) + exp(x * z),
        _box("x y z", -1, 1),
        "none(x, y, z)",
    ),
    Known(
        "cos(2 z (x^2 + exp(y))) + z^2",
        lambda x, y, z: cos(2 * z * (x**2 + exp(y))) + z**2,
        {"x": (0.2, 1.0), "y": (-1.0, 0.5), "z": (0.2, 1.0)},
        "none(h[general(x, y)], z)",
    ),
    Known(
        "1/(1 + x y) + z w",
        lambda x, y, z, w: 1 / (1 + x * y) + z * w,
        _box("x y z w", 0.2, 1.2),
        "sum(x y, product(z, w))",
    ),
    Known(
        "p q/(x^2 + y^2)",
        lambda p, q, x, y: p * q / (x**2 + y**2),
        _box("p q x y", 0.5, 1.5),
        "product(p, q, x^2 + y^2)",
    ),
    Known("x exp(y), z unused", lambda x, y, z: x * exp(y) + 0 * z, _box("x y z", -1, 1), "product(x, y)"),
    Known(
        "sin(3 x y) + cos(2 x - y)",
        lambda x, y: sin(3 * x * y) + cos(2 * x - y),
        _box("x y", -1, 1),
        "none(x, y)",
    ),
)
