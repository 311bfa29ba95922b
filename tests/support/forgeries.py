"""Forgeries of a run's files: what they hold is changed by HDF5's and JSON's own means, and the checksums put right."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kanpinn.io.checkpoint import read_checkpoint, write_checkpoint
from kanpinn.io.hdf5 import seal

SCALARS: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 10**9, 10**30, -(2**63), 0.5, -0.5, 1e308, math.nan, math.inf, -math.inf),
    *("", "nan", "1", "x" * 10_000, "a\x00b", "\x1b[2J", "../../x", "$x$", r"\frac{", "ü\u202e", "a/b", "a\nb"),
    *([], [0], [[1]], [None], ["x"], {}, {"name": "kan"}, {"u": "x"}, {"u": None}, {"a": {"b": [1]}}, list(range(300))),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested dicts and lists."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [p for key in keys for p in ((*path, key), *places(value[key], (*path, key)))]


def mutated(value: Any, chance: random.Random) -> Any:
    """A copy of plain data with one thing changed in it."""
    value = copy.deepcopy(value)
    found = places(value)
    if not found:
        return chance.choice(SCALARS)
    *path, key = chance.choice(found)
    parent = value
    for part in path:
        parent = parent[part]
    kind = chance.randrange(6)
    if kind <= 2:
        parent[key] = copy.deepcopy(chance.choice(SCALARS))
    elif kind == 3:
        del parent[key]
    elif kind == 4 and isinstance(parent, dict):
        parent[chance.choice(["", "x", f"{key}s", "a/b", "$", "level"])] = parent.pop(key)
    elif isinstance(parent[key], list):
        parent[key] = chance.choice([parent[key][::-1], parent[key][:1], parent[key] * 3])
    elif isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = parent[key] * chance.choice([-1, 0, 2, 1000, 10**9, 1e-9])
    else:
        parent[key] = chance.choice([[parent[key]], {"a": parent[key]}, str(parent[key])])
    return value


def _one(value: Any) -> Callable[[np.ndarray, random.Random], Any]:
    """Put a value in the place of one entry."""

    def act(values: np.ndarray, chance: random.Random) -> np.ndarray:
        flat = values.copy().reshape(-1)
        if flat.size:
            flat[chance.randrange(flat.size)] = value
        return flat.reshape(values.shape)

    return act


ARRAYS: dict[str, Callable[[np.ndarray, random.Random], Any]] = {
    "reversed": lambda v, _: v[::-1],
    "empty": lambda v, _: v[..., :0],
    "without rows": lambda v, _: v[:0],
    "scalar": lambda v, _: v.reshape(-1)[0],
    "one entry": lambda v, _: v.reshape(-1)[:1],
    "another axis": lambda v, _: v[None],
    "flat": lambda v, _: v.reshape(-1),
    "transposed": lambda v, _: v.T,
    "one row less": lambda v, _: v[:-1],
    "one row more": lambda v, _: np.concatenate([v, v[-1:]]),
    "one column less": lambda v, _: v[..., :-1],
    "repeated": lambda v, _: np.repeat(v, 2, axis=-1),
    "constant": lambda v, _: np.full_like(v, v.reshape(-1)[0]),
    "zero": lambda v, _: np.zeros_like(v),
    "negative": lambda v, _: -np.abs(v) - 1,
    "shuffled": lambda v, chance: v.reshape(-1)[chance.sample(range(v.size), v.size)].reshape(v.shape),
    "nan": lambda v, _: np.full_like(v, np.nan),
    "one nan": _one(math.nan),
    "infinite": lambda v, _: np.full_like(v, np.inf),
    "one infinite": _one(-math.inf),
    "huge": lambda v, _: np.full_like(v, 1e308),
    "one huge": _one(1e308),
    "tiny": lambda v, _: np.full_like(v, 5e-324),
    "large": lambda v, _: v + 10**6,
    **{kind: lambda v, _, kind=kind: v.astype(kind) for kind in ("i8", "u1", "f2", "f4", ">f8", "c16", "S8", "?")},
    "texts": lambda v, _: np.array([str(x) for x in v.reshape(-1)], object).reshape(v.shape),
    "names": lambda v, _: np.array(["a\x1b[2J\n$x$"] * v.size, object).reshape(v.shape),
}
"""Changes of an array, by name."""


def _replace(file: h5py.File, name: str, values: Any) -> None:
    """Put an array in the place of another, with its label and its scales."""
    array = np.asarray(values)
    if array.shape == file[name].shape and array.dtype == file[name].dtype:
        file[name][...] = array
        return
    old = file[name]
    kept = {key: old.attrs[key] for key in old.attrs if key in ("long_name", "units", "dtype")}
    scales = [axis[0].name if len(axis) else None for axis in old.dims]
    stands = _standing_on(file, name) if old.is_scale else []
    scale = old.attrs.get("NAME")
    del file[name]
    text = {"dtype": h5py.string_dtype()} if array.dtype.kind == "O" else {}
    new = file.create_dataset(name, data=array, **text)
    new.attrs.update(kept)
    if scale is not None:
        new.make_scale(scale if isinstance(scale, str) else scale.decode())
        for other, k in stands:
            file[other].dims[k].attach_scale(new)
    else:
        for k, axis in enumerate(scales[: new.ndim]):
            if axis is not None:
                new.dims[k].attach_scale(file[axis])


def _standing_on(file: h5py.File, name: str) -> list[tuple[str, int]]:
    """Every axis that a scale is on: the dataset and the axis's number."""
    found: list[tuple[str, int]] = []

    def collect(other: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and not item.is_scale:
            found.extend((other, k) for k, axis in enumerate(item.dims) if len(axis) and axis[0] == file[name])

    file.visititems(collect)
    return found


def forge_array(path: Path, name: str, kind: str) -> None:
    """Change one array of a file in one of the ways of `ARRAYS`; its checksum stays as it was."""
    with h5py.File(path, "r+") as file:
        _replace(file, name, ARRAYS[kind](file[name][...], random.Random(0)))


def _forge_array(file: h5py.File, name: str, chance: random.Random) -> str:
    values, kind = file[name][...], chance.choice(sorted(ARRAYS))
    with np.errstate(all="ignore"):
        _replace(file, name, ARRAYS[kind](values, chance))
    return f"{name} {kind}"


def _forge_storage(file: h5py.File, name: str, chance: random.Random) -> str:
    """Declare a dataset as none of ours is."""
    kind = chance.choice(
        ["null", "absurd shape", "absurd chunks", "view", "itself", "link out", "soft link", "group", "gone"]
    )
    home, _, leaf = name.rpartition("/")
    parent = file[home or "/"]
    shape = file[name].shape
    del parent[leaf]
    if kind == "null":
        parent[leaf] = h5py.Empty("f8")
    elif kind == "absurd shape":
        parent.create_dataset(leaf, shape=(2**40, *shape[1:]), dtype="f8", chunks=True)
    elif kind == "absurd chunks":
        parent.create_dataset(leaf, shape=(2**31,), dtype="f8", chunks=(2**28,))
    elif kind == "view":
        layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
        layout[:] = h5py.VirtualSource("/etc/hostname", "x", shape=(3,))
        parent.create_virtual_dataset(leaf, layout)
    elif kind == "itself":
        parent[leaf] = parent
    elif kind == "link out":
        parent[leaf] = h5py.ExternalLink("/etc/passwd", "/")
    elif kind == "soft link":
        parent[leaf] = h5py.SoftLink(f"/{name}")
    elif kind == "group":
        parent.create_group(leaf)
    return f"{name} {kind}"


def _forge_attribute(file: h5py.File, chance: random.Random) -> str:
    """Change or remove an attribute of any object."""
    names = ["/"]
    file.visit(names.append)
    name = chance.choice([name for name in names if len(file[name].attrs)])
    item = file[name]
    key = chance.choice(sorted(item.attrs))
    if key in ("DIMENSION_LIST", "REFERENCE_LIST") or chance.random() < 0.2:
        del item.attrs[key]
        return f"{name}@{key} gone"
    if key in ("json", "config", "meta") and chance.random() < 0.8:
        with contextlib.suppress(ValueError):
            item.attrs[key] = json.dumps(mutated(json.loads(item.attrs[key]), chance))
            return f"{name}@{key} mutated"
    values = [
        -1,
        0,
        3,
        2**40,
        math.nan,
        "",
        "x" * 50,
        "\x1b[2J\n",
        "1",
        np.arange(3.0),
        np.float64(0.5),
        h5py.Empty("f8"),
    ]
    value = chance.choice(values)
    with contextlib.suppress(TypeError, ValueError, OSError):
        item.attrs[key] = value
    return f"{name}@{key} = {value!r}"


def forge_hdf5(path: Path, chance: random.Random) -> str:
    """Change something in an HDF5 file of ours and put its checksum right; returns what was done."""
    done = "nothing"
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name, kind = chance.choice(names), chance.random()
        with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError, OSError):
            if kind < 0.6:
                done = _forge_array(file, name, chance)
            elif kind < 0.7:
                done = _forge_storage(file, name, chance)
            elif kind < 0.9:
                done = _forge_attribute(file, chance)
            elif kind < 0.95:
                home = chance.choice(["", "history/", "points/", "model/", "spectrum/", "VTKHDF/"])
                place = home + chance.choice(["v", "w_ref", "residual_", "$x$", "a b", "spectrum_t"])
                file[place] = file[name]
                done = f"{place} = {name}"
            else:
                gone = chance.choice(list(file))
                del file[gone]
                done = f"{gone} gone"
    seal(path)
    return done


def forge_checkpoint(path: Path, chance: random.Random) -> str:
    """Change an array or the record of a checkpoint, all its checksums right; returns what was done."""
    arrays, meta = read_checkpoint(path)
    if chance.random() < 0.4:
        name, kind = chance.choice(sorted(arrays)), chance.choice(sorted(ARRAYS))
        done = f"{name} {kind}"
        with np.errstate(all="ignore"), contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
            write_checkpoint(path, {**arrays, name: np.asarray(ARRAYS[kind](arrays[name], chance))}, meta)
        return done
    part = chance.choice(["state", "state", "config", *meta])
    changed = {**meta, part: mutated(meta[part], chance)}
    with contextlib.suppress(ValueError, TypeError):
        write_checkpoint(path, arrays, changed)
    return f"{part} mutated"


def forge_text(path: Path, chance: random.Random) -> str:
    """Change something in metrics.json, or in a config as JSON, which is YAML too; returns what was done."""
    import yaml

    path.write_text(json.dumps(mutated(yaml.safe_load(path.read_text()), chance)))
    return "mutated"
