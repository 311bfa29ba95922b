"""Values of a stack of spline layers and their gradient by compiled code, where the machine has a C compiler."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Inputs
from kanpinn.backbones.layer import Layer
from kanpinn.backbones.layers import Activation
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.references.cache import cache_folder
from kanpinn.splines.bspline import piece_polynomials

SOURCE = Path(__file__).with_name("stack.c")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
TYPES = {torch.float64: ("double", "f64"), torch.float32: ("float", "f32")}
SWITCH = "KANPINN_COMPILED"
"""Environment variable that is 0 to do without compiled code."""

MOST_WORK = 2**24
"""Most coefficients at work, over all points, where torch has several threads: compiled code has one."""


def _processor() -> str:
    """Text that differs between processors for which other instructions are made."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor()


@lru_cache(maxsize=4)
def library(dtype: torch.dtype) -> Any:
    """Return the compiled code for a number type, made at the first call on a machine and kept in the cache folder.

    It is None without a compiler or a folder to write to: then torch does the same.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if dtype not in TYPES or compiler is None or os.name != "posix" or os.environ.get(SWITCH) == "0":
        return None
    real, name = TYPES[dtype]
    text = "\n".join((SOURCE.read_text(), real, *FLAGS, compiler, platform.machine(), _processor()))
    try:
        path = cache_folder() / f"stack-{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                made = Path(folder) / path.name
                words = [compiler, *FLAGS, f"-DREAL={real}", f"-DNAME={name}", str(SOURCE), "-o", str(made)]
                subprocess.run(words, check=True, capture_output=True, timeout=60)
                made.replace(path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None


def _described(layers: tuple[Layer, ...]) -> list[tuple[SplineLayer, bool]] | None:
    """Return the spline layers of a stack, each with whether tanh follows; None if there are layers of other kinds."""
    found: list[tuple[SplineLayer, bool]] = []
    for layer, following in pairwise((*layers, None)):
        if isinstance(layer, Activation):
            continue
        if type(layer) is not SplineLayer or layer.spec.periodic or layer.spec.knots != "uniform":
            return None
        if layer.spec.outside == "error" or (isinstance(following, Activation) and following.name != "tanh"):
            return None
        found.append((layer, isinstance(following, Activation)))
    return found if found and not isinstance(layers[0], Activation) else None


def _pointer(values: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.data_ptr())


@dataclass(eq=False)
class Stack:
    """Compiled values of a network at its points, and their gradient by the parameters.

    Attributes:
        points: The embedded points `[N, in]`.
        size: Number of parameters P.
    """

    points: Tensor
    size: int

    def __init__(self, points: Tensor, layers: list[tuple[SplineLayer, bool]], code: Any) -> None:
        """Lay out memory for layers, each with whether it is squashed, at embedded points `[N, in]`."""
        self.points, self.size = points.contiguous(), sum(layer.size for layer, _ in layers)
        count, real = len(points), TYPES[points.dtype][1]
        rows = [
            [
                a.inputs,
                a.outputs,
                a.spec.intervals,
                a.spec.degree,
                a.spec.base,
                a.spec.bias,
                a.spec.outside == "clamp",
                s,
            ]
            for a, s in layers
        ]
        self._layers = torch.tensor(rows, dtype=torch.int64, device=points.device)
        polynomials = [float(c) for layer, _ in layers for row in piece_polynomials(layer.spec.degree) for c in row]
        self._pieces = points.new_tensor(polynomials)
        room = getattr(code, f"table_size_{real}")
        room.restype = ctypes.c_int64
        tables = [room(_pointer(row)) for row in self._layers]
        kept = [layer.outputs + 2 * layer.inputs * layer.spec.base for layer, _ in layers]
        widest = max(max(layer.inputs, layer.outputs) for layer, _ in layers)
        self._kept, self._tables = points.new_empty(count * sum(kept)), points.new_empty(sum(tables))
        self._spare = points.new_empty(2 * count * widest + max(tables))
        self._scratch = points.new_empty(20 * widest + 64, dtype=torch.float64)
        self._last = count * (sum(kept) - kept[-1]), layers[-1][0].outputs
        self._values, self._gradient = (getattr(code, f"stack_{name}_{real}") for name in ("values", "gradient"))
        head = (ctypes.c_int64(len(layers)), _pointer(self._layers), _pointer(self._pieces))
        tail = (ctypes.c_int64(count), _pointer(self.points), _pointer(self._kept), _pointer(self._tables))
        self._arguments = head, tail, (_pointer(self._spare), ctypes.c_int64(widest), _pointer(self._scratch))

    def values(self, theta: Tensor) -> Tensor:
        """Return the outputs `[N, out]` for θ `[P]`, in memory that the next call overwrites."""
        self._theta = theta.contiguous()
        head, tail, last = self._arguments
        self._values(*head, _pointer(self._theta), *tail, last[-1])
        start, outputs = self._last
        return self._kept[start : start + len(self.points) * outputs].view(-1, outputs)

    def gradient(self, cotangent: Tensor) -> Tensor:
        """Return Σ over points and outputs of cotangent `[N, out]` · ∂output/∂θ, `[P]`, at the θ of the last call."""
        head, tail, last = self._arguments
        given, out = cotangent.clone(memory_format=torch.contiguous_format), torch.empty_like(self._theta)
        self._gradient(*head, _pointer(self._theta), *tail, _pointer(given), _pointer(out), *last)
        return out


def compiled(network: Backbone, inputs: Inputs) -> Stack | None:
    """Return a network at inputs that carry no derivatives as compiled code; None if it has no such."""
    data, layers = inputs.data, _described(network.layers)
    if layers is None or inputs.factor is not None or len(data) != 1 or data.device.type != "cpu" or not data.numel():
        return None
    work = data.shape[1] * sum(a.outputs * a.inputs * (a.spec.degree + 1) for a, _ in layers)
    if torch.get_num_threads() > 1 and work > MOST_WORK:
        return None
    code = library(data.dtype)
    return None if code is None else Stack(data[0].detach(), layers, code)
