"""Configs and files changed at random: refused in one line or understood, never a traceback, never the wrong numbers.

Every case is made from its number alone, so that one that fails can be repeated. They run one after the other in a
forked child with a bounded memory; one that takes the child down is the one after the last that was told.
"""

import contextlib
import copy
import csv
import io
import json
import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support import child
from support.fuzzing import NASTY, call, fuzz

from kanpinn import load
from kanpinn.cli.main import main
from kanpinn.errors import UserError
from kanpinn.io.checkpoint import read_checkpoint, write_checkpoint
from kanpinn.io.hdf5 import seal
from kanpinn.run import preflight
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate

FEW = 25
MANY = 500

TINY = [
    "problem=heat", "backbone=kan", "backbone.width=[2]", "backbone.grid=2", "backbone.degree=3", "schedule.levels=2",
    "schedule.steps=2", "sampler=uniform", "sampler.interior=20", "sampler.boundary=4", "output.points=9",
    "output.progress=false", "output.figures=false",
]  # fmt: skip


# --- configs


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested dicts and lists."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [p for key in keys for p in ((*path, key), *paths(value[key], (*path, key)))]


def mutated(value: Any, chance: random.Random) -> Any:
    """A copy of JSON-like data with a few things changed in it."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        places = paths(value)
        if not places:
            break
        *path, key = chance.choice(places)
        parent = value
        for part in path:
            parent = parent[part]
        kind = chance.randrange(7)
        if kind <= 2:
            parent[key] = copy.deepcopy(chance.choice(NASTY))
        elif kind == 3:
            del parent[key]
        elif kind == 4 and isinstance(parent, dict):
            parent[f"{key}"[:-1] + chance.choice("abcxyz_")] = parent.pop(key)
        elif kind == 5:
            deep: Any = parent[key]
            for _ in range(chance.choice([1, 3, 60])):
                deep = {"a": deep} if chance.random() < 0.5 else [deep]
            parent[key] = deep
        elif isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
            parent[key] = parent[key] * chance.choice([-1, 0, 2, 1000, 10**9, 1e-9])
    return value


def one_line(error: UserError) -> None:
    assert "\n" not in str(error)
    assert 0 < len(str(error)) < 2000, len(str(error))
    assert "tell-nobody" not in str(error)


def config_case(base: dict[str, Any]) -> Callable[[int], str]:
    def one(number: int) -> str:
        preflight.available_memory = lambda _: 2**32  # in a child only
        config = mutated(base, random.Random(number))
        try:
            configuration = validate(config)
            preflight.check(configuration.setup)
        except UserError as error:
            one_line(error)
            return "refused"
        assert "tell-nobody" not in repr(configuration.resolved)
        same = json.dumps(configuration.resolved, sort_keys=True) == json.dumps(config, sort_keys=True)
        assert same or "${" in repr(config), "a value was dropped or replaced"
        return "taken as it is"

    return one


def override_case(number: int) -> str:
    """One override on the command line, its value or its key changed."""
    chance = random.Random(number)
    groups = [
        "problem",
        "backbone",
        "sampler",
        "schedule",
        "optimizer",
        "weighting",
        "output",
        "hydra",
        "hydra/launcher",
    ]
    keys = ["seed", "dtype", "device", "threads", "time_limit_s", "backbone.width", "sampler.interior", "problem.nu"]
    keys += [
        "schedule.steps",
        "hydra.run.dir",
        "hydra.sweep.dir",
        "hydra.launcher._target_",
        "hydra.callbacks.x",
        *groups,
    ]
    key = chance.choice(keys)
    if chance.random() < 0.3:
        k = chance.randrange(len(key))
        key = key[:k] + chance.choice("@.=+~ x:/{") + key[k + chance.randrange(2) :]
    value = chance.choice([str(chance.choice(NASTY))[:300], "".join(chance.choices("[]{}(),:'\"\\$ =x1é\t", k=8))])
    try:
        cfg, _ = compose([chance.choice(["", "", "+", "++", "~"]) + key + "=" + value])
        validate(cfg)
    except UserError as error:
        one_line(error)
        return "refused"
    return "composed"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, with points and values beside it."""
    folder = tmp_path_factory.mktemp("fuzz")
    ended = child.run(lambda: main(["solve", *TINY, f"hydra.run.dir={folder}/run"]))
    assert ended.code == 0, ended
    grid = [f"{x},{t}" for x in (0.0, 0.25, 0.5, 1.0) for t in (0.0, 0.3, 1.0)]
    (folder / "p.csv").write_text("\n".join(["x,t", *grid]) + "\n")
    return folder


def test_a_few_changed_configs(finished):
    cfg, _ = compose(TINY)
    fuzz(range(FEW), config_case(validate(cfg).resolved))
    fuzz(range(5), override_case)


@pytest.mark.slow
def test_many_changed_configs(finished):
    cfg, _ = compose(TINY)
    counts = fuzz(range(1000, 1000 + MANY), config_case(validate(cfg).resolved))
    assert counts["refused"] > MANY / 4
    assert counts["taken as it is"] > MANY / 50
    fuzz(range(2000, 2000 + MANY // 5), override_case)


# --- files


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes with something done to them that disks, networks and people do."""
    data = bytearray(content)
    size = len(data)
    start = chance.randrange(size)
    length = min(chance.choice([1, 8, 64, 512, 4096]), size - start)
    kind = chance.randrange(8)
    if kind <= 1:
        for _ in range(chance.choice([1, 1, 10, 1000])):
            data[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif kind == 2:
        del data[start:]
    elif kind == 3:
        data[start : start + length] = bytes(length)
    elif kind == 4:
        data[start : start + length] = chance.randbytes(length)
    elif kind == 5:
        other = chance.randrange(size - length + 1)
        data[start : start + length], data[other : other + length] = (
            data[other : other + length],
            data[start : start + length],
        )
    elif kind == 6:
        data[start:start] = data[start : start + length]
    else:
        data[start : start + length] = b"\xff" * length
    return bytes(data)


def forged(path: Path, chance: random.Random) -> None:
    """Change what an HDF5 file holds by HDF5's own means, as somebody would who means harm."""
    if path.name.startswith("checkpoint_") and chance.random() < 0.7:
        arrays, meta = read_checkpoint(path)
        if chance.random() < 0.5:
            part = chance.choice(["state", "state", "config", None])
            meta = {**meta, part: mutated(meta[part], chance)} if part else mutated(meta, chance)
        else:
            name = chance.choice(sorted(arrays))
            old = arrays[name]
            wrong = [np.zeros(3), old * math.nan, old[..., :0], old.astype(np.int8), np.ones((2, 2)), old * 1e300, -old]
            arrays[name] = chance.choice(wrong)
        with contextlib.suppress(ValueError, TypeError):
            write_checkpoint(path, arrays, meta)
        return
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = chance.choice(names)
        item = file[name]
        kind = chance.randrange(8)
        if kind == 0:
            del file[name]
        elif kind == 1 and item.attrs:
            item.attrs[chance.choice(list(item.attrs))] = chance.choice(
                [1, "x" * 70_000, np.zeros(5), np.void(b"xx"), ""]
            )
        elif kind == 2:
            key = chance.choice(list(file.attrs))
            file.attrs[key] = chance.choice([-1, "\x1b[2J", "${oc.env:HOME}", np.arange(7), math.nan, "{}", "[" * 5000])
        elif kind == 3:
            parent, leaf = item.parent, item.name.rpartition("/")[2]
            del parent[leaf]
            parent[leaf] = chance.choice(
                [h5py.SoftLink("/"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink("/etc/passwd", "/"), file["/"]]
            )
        elif kind == 4 and isinstance(item, h5py.Dataset):
            shape, parent, leaf = item.shape, item.parent, item.name.rpartition("/")[2]
            del parent[leaf]
            wrong = chance.choice(["f8", "i1", "S10", "c16", "f2", ">f8", "?", h5py.string_dtype(), h5py.ref_dtype])
            other = chance.choice([shape, (), (0,), (3,), (2, 2), (10**9,), (2**40, 2**20), (1,) * 20])
            compressed = {"compression": "gzip"} if other and 0 not in other and chance.random() < 0.5 else {}
            with contextlib.suppress(ValueError, TypeError):
                parent.create_dataset(leaf, other, wrong, **compressed)
        elif kind == 5 and isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and item.size:
            item[...] = chance.choice([math.nan, math.inf, -1e308, 0.0])
        elif kind == 6:
            for holder in ("metrics", "levels", "model"):
                if holder in file and "json" in file[holder].attrs:
                    record = mutated(json.loads(file[holder].attrs["json"]), chance)
                    file[holder].attrs["json"] = json.dumps(record)
            if "meta" in file.attrs:
                file.attrs["meta"] = json.dumps(mutated(json.loads(file.attrs["meta"]), chance))
            elif isinstance(meta := file.get("meta"), h5py.Dataset):
                text = json.dumps(mutated(json.loads(meta[...].tobytes()), chance)).encode()
                del file["meta"]
                file["meta"] = np.frombuffer(text, dtype=np.uint8)
        else:
            file.create_group("a/" * chance.choice([1, 3, 100]))
    seal(path)


def shown(text: str) -> Any:
    """What `inspect --json` tells of a run, without the sizes of its files."""
    told = json.loads(text)
    return {key: value for key, value in told.items() if key not in ("bytes", "files", "warnings")}


def values(table: Path, run: Path) -> str:
    """What evaluate should write, by Python's own reader of CSV and a call of the network."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        head, *rows = [
            [cell.strip() for cell in row] for row in csv.reader(stream) if any(cell.strip() for cell in row)
        ]
    points = np.array([[float(row[head.index("x")]), float(row[head.index("t")])] for row in rows])
    assert np.isfinite(points).all()
    u = load(run)(points)["u"]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [[*head, "u"], *([*r, f"{v:.17g}"] for r, v in zip(rows, u, strict=True))]
    )
    return stream.getvalue()


def file_case(finished: Path, place: Path) -> Callable[[int], str]:
    run, table = finished / "run", finished / "p.csv"
    inspected = shown(call("inspect", str(run), "--json").out)
    evaluated = call("evaluate", str(run), "--points", str(table)).out
    assert evaluated == values(table, run)
    targets = ["solution.h5", "solution.h5", "checkpoint", "checkpoint", "metrics.json", "config.yaml", "p.csv"]
    targets += ["unfinished", "unfinished"]

    def one(number: int) -> str:
        chance = random.Random(number)
        here = place / str(number)
        shutil.copytree(finished, here)
        os.chdir(here)
        target = targets[number % len(targets)]
        kept = sorted((here / "run" / "checkpoints").glob("*.h5"))
        if target == "unfinished":  # one level is left to train
            for gone in (kept.pop(), here / "run" / "solution.h5", here / "run" / "metrics.json"):
                gone.unlink()
        in_checkpoint = target in ("checkpoint", "unfinished")
        file = kept[-1] if in_checkpoint else here / target if target == "p.csv" else here / "run" / target
        before = file.read_bytes()
        how = "damaged"
        if target == "metrics.json" and chance.random() < 0.5:
            file.write_text(json.dumps(mutated(json.loads(before), chance)))
        elif file.suffix == ".h5" and chance.random() < 0.6:
            how = "forged"
            if chance.random() < 0.6:
                forged(file, chance)
            else:
                file.write_bytes(damaged(before, chance))
                with contextlib.suppress(ValueError):
                    seal(file)
        else:
            file.write_bytes(damaged(before, chance))
        changed = file.read_bytes() != before
        told = call("inspect", "run", "--json")
        table_told = call("evaluate", "run", "--points", "p.csv")
        codes = [told.code, table_told.code, call("inspect", "run").code, call("inspect", str(file)).code]
        if target == "solution.h5" and (number % 3 == 0 or how == "damaged"):
            codes.append(call("plot", "run", "-o", "figures").code)
        if how == "damaged":  # nobody has made up a checksum: what is told is what was written, or nothing is told
            if told.code == 0 and target != "unfinished":
                found = shown(told.out) | {"path": inspected["path"]}
                if found["solution"] is not None:
                    found["solution"]["path"] = inspected["solution"]["path"]
                assert found == inspected
            if target == "p.csv" and table_told.code == 0:
                assert table_told.out == values(here / "p.csv", run)
            elif target not in ("p.csv", "unfinished") and table_told.code == 0 and "is used" not in table_told.err:
                assert table_told.out == evaluated
            if changed and target == "solution.h5":
                assert codes[0] == codes[2] == codes[3] == codes[4] == 2
                assert not (here / "figures").exists()
            if changed and target == "checkpoint":
                assert codes[3] == 2
                assert codes[1] == 2 or "is used" in table_told.err
        # A made-up config may ask for any number of steps, and made-up parameters may diverge.
        resumed = call("resume", "run", "time_limit_s=5", codes=(0, 2, 3) if how == "forged" else (0, 2))
        if how == "damaged" and resumed.code == 0 and target != "p.csv":
            assert call("evaluate", "run", "--points", "p.csv").out == evaluated
        for stray in here.rglob("*.tmp"):
            raise AssertionError(f"left behind: {stray}")
        os.chdir(place)
        shutil.rmtree(here)
        return f"{target} {how} {'refused' if 2 in codes else 'harmless'}"

    return one


@pytest.mark.slow
def test_a_few_changed_files(finished, tmp_path):
    fuzz(range(10), file_case(finished, tmp_path))


@pytest.mark.slow
def test_many_changed_files(finished, tmp_path):
    counts = fuzz(range(1000, 1000 + MANY), file_case(finished, tmp_path))
    assert counts["solution.h5 damaged refused"] > 20
    assert counts["solution.h5 forged refused"] > 20
