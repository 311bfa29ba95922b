"""State of an object in a checkpoint: nested plain values with arrays as leaves, to and from JSON and arrays.

Every object that changes while a solve runs has `state()`, which gives such a nest, and `load_state(state)`, by which
an object built from the same config comes to stand where the other one stood. What follows from the config, or from
other parts of the state without rounding, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = dict[str, Any]
"""None, booleans, numbers, texts, lists and dicts of them, with tensors or arrays among the leaves."""

_ARRAY = "$array"


def split(state: Any, prefix: str) -> tuple[Any, dict[str, np.ndarray]]:
    """Separate the arrays of a state, by slash path below a prefix, from what JSON can hold.

    Raises:
        TypeError: If something is neither plain nor an array.
    """
    if isinstance(state, Tensor):
        return {_ARRAY: prefix}, {prefix: state.detach().cpu().numpy()}
    if isinstance(state, np.ndarray):
        return {_ARRAY: prefix}, {prefix: state}
    if state is None or isinstance(state, bool | int | float | str):
        return state, {}
    if isinstance(state, Mapping):
        items = [(str(key), value) for key, value in state.items()]
    elif isinstance(state, list | tuple):
        items = [(str(k), value) for k, value in enumerate(state)]
    else:
        raise TypeError(f"{prefix}: a {type(state).__name__} cannot be part of a state")
    plain, arrays = {}, {}
    for key, value in items:
        plain[key], found = split(value, f"{prefix}/{key}")
        arrays.update(found)
    return (plain if isinstance(state, Mapping) else list(plain.values())), arrays


def join(plain: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Put the arrays back that `split` has taken out, as numpy arrays; raises KeyError if one is missing."""
    if isinstance(plain, Mapping):
        if set(plain) == {_ARRAY}:
            return arrays[plain[_ARRAY]]
        return {key: join(value, arrays) for key, value in plain.items()}
    if isinstance(plain, list):
        return [join(value, arrays) for value in plain]
    return plain


def tensor(values: np.ndarray, device: torch.device | str) -> Tensor:
    """An array of a state as a tensor in memory of torch's own, aligned as it was: products may round otherwise."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device, copy=True)


def check_size(values: Tensor, size: int) -> None:
    """Raise ValueError unless values are `size` floating-point parameters, `[P]`."""
    if values.shape != (size,) or not values.is_floating_point():
        raise ValueError(f"{values.dtype} of shape {list(values.shape)} in place of {size} parameters")


def check_vectors(state: Any, size: int) -> None:
    """Raise ValueError unless every array of a state has `size` columns, or is one number."""
    leaves = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    for leaf in leaves:
        check_vectors(leaf, size)
    if isinstance(state, np.ndarray) and state.ndim and (state.shape[-1] != size or state.dtype.kind != "f"):
        raise ValueError(f"{state.dtype} of shape {list(state.shape)} for {size} parameters")


_KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "dict[str, float]": (dict,),
}


def check_types(record: Any) -> None:
    """Raise ValueError unless the plain fields of a dataclass hold what they are declared to hold."""
    for field in fields(record):
        kind, _, none = str(field.type).partition(" | ")
        value = getattr(record, field.name)
        if kind not in _KINDS or (value is None and none):
            continue
        numbers = value.values() if isinstance(value, dict) else ()
        if (
            not isinstance(value, _KINDS[kind])
            or (isinstance(value, bool) and kind != "bool")
            or not all(isinstance(number, float) for number in numbers)
        ):
            raise ValueError(f"{field.name} is a {type(value).__name__}, not {field.type}")


def generator_state(generator: np.random.Generator) -> State:
    """Position of a random generator, the number of its children included: SciPy's engines draw from a child each."""
    sequence = generator.bit_generator.seed_seq
    assert isinstance(sequence, np.random.SeedSequence)
    known = {"entropy": sequence.entropy, "spawn_key": list(sequence.spawn_key)}
    return {**known, "children": sequence.n_children_spawned, "position": dict(generator.bit_generator.state)}


def generator_of(state: State) -> np.random.Generator:
    """The generator whose `generator_state` this is; raises ValueError if it is not one of `numpy.random.PCG64`."""
    key, children = tuple(state["spawn_key"]), int(state["children"])
    bits = np.random.PCG64(np.random.SeedSequence(state["entropy"], spawn_key=key, n_children_spawned=children))
    bits.state = state["position"]
    return np.random.Generator(bits)
