"""Scalar functions with all their derivatives in closed form, by the names torch gives them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from kanpinn.jets.bessel import BESSEL


def sin_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """Sin and its derivatives to `order` at x `[...]`."""
    s, c = torch.sin(x), torch.cos(x)
    return [(s, c, -s, -c)[d % 4] for d in range(order + 1)]


def cos_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """Cos and its derivatives to `order` at x `[...]`."""
    s, c = torch.sin(x), torch.cos(x)
    return [(c, -s, -c, s)[d % 4] for d in range(order + 1)]


def exp_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """Exp and its derivatives to `order` at x `[...]`."""
    return [torch.exp(x)] * (order + 1)


def tanh_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """Tanh and its derivatives to `order` at x `[...]`, as polynomials in tanh (y′ = 1 − y²)."""
    y = torch.tanh(x)
    square = y * y
    coefficients = [0.0, 1.0]  # tanh itself, in powers of y
    out = [y]
    for d in range(1, order + 1):
        # d/dx Σ c_i yⁱ = Σ c_i i (yⁱ⁻¹ − yⁱ⁺¹)
        new = [0.0] * (len(coefficients) + 1)
        for i, c in enumerate(coefficients):
            if i:
                new[i - 1] += c * i
                new[i + 1] -= c * i
        coefficients = new
        # Odd and even derivatives of an odd function are even and odd polynomials.
        *lower, highest = coefficients[(d + 1) % 2 :: 2]
        value = square * highest
        for c in reversed(lower[1:]):
            value.add_(c).mul_(square)
        value.add_(lower[0])
        out.append(value if d % 2 else value.mul_(y))
    return out


def sigmoid_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """The logistic function and its derivatives to `order` at x `[...]`; σ(x) = (1 + tanh(x/2))/2."""
    half = tanh_derivatives(x / 2, order)
    return [0.5 + 0.5 * half[0]] + [0.5 ** (d + 1) * half[d] for d in range(1, order + 1)]


def silu_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """SiLU x·σ(x) and its derivatives to `order` at x `[...]`: x σ⁽ᵈ⁾ + d σ⁽ᵈ⁻¹⁾."""
    s = sigmoid_derivatives(x, order)
    return [x * s[0]] + [x * s[d] + d * s[d - 1] for d in range(1, order + 1)]


def log_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """The natural logarithm and its derivatives to `order` at x `[...]`."""
    return [torch.log(x)] + [(-1) ** (d - 1) * math.factorial(d - 1) * x ** (-d) for d in range(1, order + 1)]


def sqrt_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """The square root and its derivatives to `order` at x `[...]`."""
    out, factor = [], 1.0
    for d in range(order + 1):
        out.append(factor * x ** (0.5 - d))
        factor *= 0.5 - d
    return out


def sinh_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """Sinh and its derivatives to `order` at x `[...]`."""
    s, c = torch.sinh(x), torch.cosh(x)
    return [(s, c)[d % 2] for d in range(order + 1)]


def cosh_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """Cosh and its derivatives to `order` at x `[...]`."""
    s, c = torch.sinh(x), torch.cosh(x)
    return [(c, s)[d % 2] for d in range(order + 1)]


def abs_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """The absolute value and its derivatives to `order` at x `[...]`, those at 0 from the right: 1, then 0."""
    sign = torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))
    return [x.abs(), sign, *[torch.zeros_like(x)] * (order - 1)][: order + 1]


def erfc_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """The complementary error function and its derivatives to `order` at x `[...]`.

    erfc⁽ⁿ⁾ = (−1)ⁿ 2/√π Hₙ₋₁(x) exp(−x²), H the physicists' Hermite polynomials (DLMF 7.10.1).
    """
    out, before, hermite = [torch.erfc(x)], torch.zeros_like(x), torch.ones_like(x)
    factor = 2 / math.sqrt(math.pi) * torch.exp(-x.square())
    for n in range(1, order + 1):
        out.append((-1) ** n * factor * hermite)
        before, hermite = hermite, 2 * x * hermite - 2 * (n - 1) * before
    return out


def erf_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """The error function and its derivatives to `order` at x `[...]`: 1 − erfc."""
    return [torch.erf(x), *(-y for y in erfc_derivatives(x, order)[1:])]


def tan_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """Tan and its derivatives to `order` at x `[...]`, as polynomials in tan: y′ = 1 + y² (DLMF 4.20.4)."""
    y, powers = torch.tan(x), [0.0, 1.0]
    out = [y]
    for _ in range(order):
        # d/dx Σ c_i yⁱ = Σ c_i i (yⁱ⁻¹ + yⁱ⁺¹)
        slopes = [i * c for i, c in enumerate(powers)]
        powers = [a + b for a, b in zip([*slopes[1:], 0.0, 0.0], [0.0, *slopes], strict=True)]
        out.append(reduce(lambda total, c: total * y + c, reversed(powers), torch.zeros_like(y)))
    return out


def atan_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """The inverse tangent and its derivatives to `order` at x `[...]`.

    (1 + x²) f⁽ⁿ⁺¹⁾ = −2n x f⁽ⁿ⁾ − n(n − 1) f⁽ⁿ⁻¹⁾: Leibniz' rule on (1 + x²) f′ = 1 (DLMF 4.24.15).
    """
    out, rest = [torch.atan(x)], 1 + x * x
    if order:
        out.append(1 / rest)
    for n in range(1, order):
        out.append((-2 * n * x * out[n] - n * (n - 1) * out[n - 1]) / rest)
    return out


def asin_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """The inverse sine and its derivatives to `order` at x `[...]` within (−1, 1).

    (1 − x²) f⁽ⁿ⁺¹⁾ = (2n − 1) x f⁽ⁿ⁾ + (n − 1)² f⁽ⁿ⁻¹⁾: Leibniz' rule on (1 − x²) f″ = x f′.
    """
    out, rest = [torch.asin(x)], 1 - x * x
    if order:
        out.append(rest**-0.5)
    for n in range(1, order):
        out.append(((2 * n - 1) * x * out[n] + (n - 1) ** 2 * out[n - 1]) / rest)
    return out


def acos_derivatives(x: Tensor, order: int) -> list[Tensor]:
    """The inverse cosine and its derivatives to `order` at x `[...]` within (−1, 1): π/2 − asin."""
    return [torch.acos(x), *(-y for y in asin_derivatives(x, order)[1:])]


Derivatives = Callable[[Tensor, int], list[Tensor]]
FUNCTIONS: dict[str, Derivatives] = {
    "sin": sin_derivatives,
    "cos": cos_derivatives,
    "exp": exp_derivatives,
    "tanh": tanh_derivatives,
    "sigmoid": sigmoid_derivatives,
    "silu": silu_derivatives,
    "log": log_derivatives,
    "sqrt": sqrt_derivatives,
    "sinh": sinh_derivatives,
    "cosh": cosh_derivatives,
    "abs": abs_derivatives,
    "tan": tan_derivatives,
    "asin": asin_derivatives,
    "acos": acos_derivatives,
    "atan": atan_derivatives,
    "erf": erf_derivatives,
    "erfc": erfc_derivatives,
    **BESSEL,
}
"""Scalar functions with all their derivatives, by the name torch gives them."""
