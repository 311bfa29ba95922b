"""Files from a stranger: what they declare is judged before it is read, and nothing in them leads anywhere else."""

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import child

from kanpinn.cli.evaluate import read_table
from kanpinn.cli.main import main
from kanpinn.errors import UserError
from kanpinn.io.checkpoint import read_checkpoint, write_checkpoint
from kanpinn.io.hdf5 import seal
from kanpinn.io.inspect import inspect
from kanpinn.io.metrics import read_metrics
from kanpinn.io.solution import SolutionFile, read_solution, write_solution

MEMORY = 2**30


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good solution file."""
    x = np.linspace(0, 1, 9)
    write_solution(
        tmp_path / "solution.h5",
        SolutionFile(
            problem="mine", equation="u_x = 0", config="seed: 0\n", seed=0, dtype="float64", status="converged",
            coordinates={"x": x}, labels={}, fields={"u": x}, metrics={"status": "converged"},
        ),
    )  # fmt: skip
    return tmp_path / "solution.h5"


def chunked(file: h5py.File, name: str, shape: tuple[int, ...], chunk: tuple[int, ...]) -> h5py.Dataset:
    return file.create_dataset(name, shape, "f8", chunks=chunk, compression="gzip")


def ten_gigabytes_of_zeros(f: h5py.File) -> None:
    """Ten thousand chunks that take 1 kB each on disk; all of them the same bytes."""
    data = chunked(f, "v", (10**4, 2**17), (1, 2**17))
    packed = zlib.compress(bytes(2**20), 9)
    for row in range(100):
        data.id.write_direct_chunk((row, 0), packed)


def a_chunk_that_grows(f: h5py.File) -> None:
    """A small dataset whose one chunk unpacks to a gigabyte."""
    data = chunked(f, "v", (16,), (16,))
    data.id.write_direct_chunk((0,), zlib.compress(bytes(2**30), 9))


def packed_twice(f: h5py.File) -> None:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((2**17,))
    layout.set_deflate(9)
    layout.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    h5py.h5d.create(f.id, b"v", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((2**17,)), layout)


def needs_a_plugin(f: h5py.File) -> None:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((16,))
    layout.set_filter(32008, h5py.h5z.FLAG_OPTIONAL, (0, 0))
    h5py.h5d.create(f.id, b"v", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((16,)), layout)


def raw_bytes_of_another_file(f: h5py.File) -> None:
    f.create_dataset("v", (8,), "u1", external=[("/etc/passwd", 0, 8)])


def view_of(path: str, name: str) -> Callable[[h5py.File], None]:
    def make(f: h5py.File) -> None:
        layout = h5py.VirtualLayout((9,), "f8")
        layout[:] = h5py.VirtualSource(path, name, (9,))
        f.create_virtual_dataset("v", layout)

    return make


def a_group_in_itself(f: h5py.File) -> None:
    f["history/again"] = f["history"]


def one_long_text_many_times(f: h5py.File) -> None:
    """A thousand texts that all point to the same one of a megabyte."""
    data = f["history"].create_dataset("v", (1000,), h5py.string_dtype())
    data[0] = "x" * 1_000_000
    f.flush()
    with open(f.filename, "rb+") as raw:
        raw.seek(data.id.get_offset())
        pointer = raw.read(16)
        raw.seek(data.id.get_offset())
        raw.write(pointer * 1000)


def another_field(values: np.ndarray) -> Callable[[h5py.File], None]:
    def make(f: h5py.File) -> None:
        f["v"] = values
        f["v"].attrs.update({"long_name": "v", "units": "1"})

    return make


HOSTILE: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "zeros": (ten_gigabytes_of_zeros, "declares"),
    "a chunk that grows": (a_chunk_that_grows, "unpacks to more"),
    "packed twice": (packed_twice, "packed in a way"),
    "a plugin": (needs_a_plugin, "packed in a way"),
    "never written": (lambda f: f.create_dataset("v", (2**40,), "f8"), "declares"),
    "a dimension read as values": (lambda f: f["points"].create_dataset("x/v", (2**40,), "f8"), "declares"),
    "large chunks": (lambda f: chunked(f, "v", (2**28,), (2**28,)), "declares"),
    "external link": (lambda f: f.__setitem__("v", h5py.ExternalLink("/etc/passwd", "/")), "only hard links"),
    "soft link": (lambda f: f.__setitem__("v", h5py.SoftLink("/u")), "only hard links"),
    "soft links in a circle": (
        lambda f: (f.__setitem__("v", h5py.SoftLink("/w")), f.__setitem__("w", h5py.SoftLink("/v"))),
        "only hard links",
    ),
    "a group in itself": (a_group_in_itself, "within itself"),
    "deep groups": (lambda f: f.create_group("a/" * 100), "more than 32"),
    "raw bytes of another file": (raw_bytes_of_another_file, "another file"),
    "a view of another file": (view_of("/etc/passwd", "u"), "no dataset of this file"),
    "a view of itself": (view_of(".", "v"), "no dataset of this file"),
    "references": (lambda f: f.create_dataset("v", (3,), h5py.ref_dtype), "only numbers and text"),
    "sequences": (lambda f: f.create_dataset("v", (3,), h5py.vlen_dtype(np.dtype("f8"))), "only numbers and text"),
    "records": (lambda f: f.create_dataset("v", (3,), [("a", "f8"), ("b", "i4")]), "only numbers and text"),
    "raw types": (lambda f: f.create_dataset("v", data=np.void(b"cposix\nsystem\n")), "only numbers and text"),
    "a named type": (lambda f: f.__setitem__("v", np.dtype("f8")), "neither a group nor a dataset"),
    "an absurd attribute": (
        lambda f: f.create_group("v", track_order=True).attrs.create("a", np.zeros(6_000), dtype=("f8", (6_000,))),
        "",
    ),
    "an attribute of references": (lambda f: f.attrs.__setitem__("r", f["u"].ref), "neither numbers nor text"),
    "many texts in one": (one_long_text_many_times, ""),
    "fields of another shape": (another_field(np.zeros((3, 3))), "expected the axes (x)"),
    "a field of whole numbers": (another_field(np.arange(9)), "on the grid"),
    "no fields": (lambda f: f.__delitem__("u"), ""),
    "a record nested without end": (lambda f: f["metrics"].attrs.__setitem__("json", "[" * 60_000), ""),
    "a record that is a list": (lambda f: f["metrics"].attrs.__setitem__("json", "[1]"), ""),
    "a number that is not one": (lambda f: f["metrics"].attrs.__setitem__("json", '{"loss": NaN}'), "finite"),
    "a number of a million digits": (
        lambda f: f["metrics"].attrs.__setitem__("json", '{"loss": 1' + "0" * 60_000 + "}"),
        "",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_in_little_memory(case, file, capfd):
    change, word = HOSTILE[case]
    with h5py.File(file, "r+") as f:
        for name in ("VTKHDF",):
            f.pop(name, None)
        try:
            change(f)
        except (ValueError, OSError, RuntimeError) as error:
            pytest.skip(f"this HDF5 does not write such a file: {error}")
    seal(file)
    assert file.stat().st_size < 2**22

    def read() -> int:
        overview = (0, 2) if word in ("on the grid", "expected the axes (x)", "") else (2,)
        assert main(["inspect", str(file), "--json"]) in overview
        read_solution(file)
        return 0

    ended = child.run(read, memory=MEMORY)
    assert ended.code == 70, ended
    assert "kanpinn.errors.UserError" in ended.err
    assert word in ended.err
    assert "not enough memory" not in ended.err
    assert "root:" not in ended.out + ended.err


def test_a_view_of_a_dataset_of_the_same_file_is_fine(file):
    with h5py.File(file, "r+") as f:
        layout = h5py.VirtualLayout((9,), "f8")
        layout[:] = h5py.VirtualSource(".", "u", (9,))
        f.create_group("mine").create_virtual_dataset("v", layout)
    seal(file)
    np.testing.assert_array_equal(read_solution(file).fields["u"], np.linspace(0, 1, 9))


def test_any_changed_byte_is_noticed(file):
    good = file.read_bytes()
    for place in np.random.default_rng(0).choice(len(good), 60, replace=False):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(UserError):
            read_solution(file)
    file.write_bytes(good)
    read_solution(file)


@pytest.mark.parametrize("kind", [h5py.ref_dtype, h5py.string_dtype(), np.dtype("V8"), np.dtype("S5")])
def test_a_checkpoint_of_anything_but_numbers_is_refused(kind, tmp_path):
    path = tmp_path / "c.h5"
    write_checkpoint(path, {"theta": np.zeros(3)}, {"a": 1})
    with h5py.File(path, "r+") as f:
        f["arrays"].create_dataset("evil", (3,), kind)
    seal(path)
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path)


def test_a_solution_that_is_a_device_or_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "solution.h5")
    (tmp_path / "metrics.json").symlink_to("/dev/zero")
    for work in (read_solution, inspect):
        with pytest.raises(UserError, match="not a plain file"):
            work(tmp_path / "solution.h5")
    with pytest.raises(UserError, match="not a plain file"):
        read_metrics(tmp_path / "metrics.json")


def test_a_file_cannot_steer_the_terminal(file, capsys):
    with h5py.File(file, "r+") as f:
        f.attrs["problem"] = "\x1b]0;owned\x07\x1b[2J"
        f["u"].attrs["units"] = "\x1b[31m"
    seal(file)
    assert main(["inspect", str(file)]) == 0
    assert main(["inspect", str(file.parent / "\x1b[2J")]) == 2
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err


METRICS = {
    "not JSON": ("{", "JSON"),
    "empty": ("", "JSON"),
    "a list": ("[]", "list"),
    "binary": ("\x00\x01", "JSON"),
    "nested": ("[" * 100_000, "JSON"),
    "nested, closed": ("[" * 900 + "]" * 900, "list"),
    "deep": ('{"a":' * 50 + "1" + "}" * 50, "nested"),
    "infinite": ('{"loss": 1e999}', "finite"),
    "text for a number": ('{"loss": "small"}', "loss"),
    "true for a number": ('{"parameters": true}', "parameters"),
    "number for text": ('{"status": 7}', "status"),
    "levels": ('{"levels": [1]}', "levels"),
    "level": ('{"levels": [{"loss": []}]}', "loss"),
    "errors": ('{"relative_l2": {"u": "x"}}', "relative_l2"),
    "digits": ('{"loss": 1' + "0" * 5000 + "}", "JSON"),
    "long": (json.dumps({"status": "x" * 20_000}), "status"),
}


@pytest.mark.parametrize("case", METRICS)
def test_metrics_that_no_run_writes_are_refused(case, tmp_path):
    text, word = METRICS[case]
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=word) as caught:
        read_metrics(tmp_path / "metrics.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


TABLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no points"),
    "a head only": (b"x,y\n", "no points"),
    "blank": (b"\n\n  \n", "no points"),
    "binary": (bytes(range(256)) * 10, "not a text file"),
    "zeros": (bytes(1000), "no points|not a text"),
    "UTF-16": ("x,y\n0,0\n".encode("utf-16"), "not a text file"),
    "one long line": (b"x,y\n" + b"0" * 200_000, "more than 100,000 letters"),
    "a quote never closed": (b'x,y\n"' + b"0\n" * 300_000, "CSV"),
    "too many lines": (b"x,y\n" + b"0,0\n" * 2_001, "2,000 lines"),
    "cells missing": (b"x,y\n1\n", "line 2 has 1 cells"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_that_is_none_is_refused(case, tmp_path, monkeypatch):
    if case == "too many lines":
        monkeypatch.setattr("kanpinn.io.table.MOST_LINES", 2_000)
    content, word = TABLES[case]
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(UserError, match=word):
        read_table(tmp_path / "p.csv")


def test_a_table_without_end_is_given_up(tmp_path):
    ended = child.run(lambda: main(["evaluate", "run", "--points", "/dev/zero"]), memory=MEMORY)
    assert ended.code == 2
    assert "more than 100,000 letters" in ended.err
    assert ended.seconds < 30


@pytest.mark.parametrize("head", [b"\xef\xbb\xbfx,y\r\n", b" x , y\n", b"y,note,x\n"])
def test_a_byte_order_mark_spaces_and_other_columns_are_fine(head, tmp_path):
    rows = b"0.5,a,0.25\n" if b"note" in head else b"0.25,0.5\n"
    (tmp_path / "p.csv").write_bytes(head + rows)
    table = read_table(tmp_path / "p.csv")
    assert {"x", "y"} <= set(table.header)
    assert dict(zip(table.header, table.rows[0], strict=True))["x"] == "0.25"
