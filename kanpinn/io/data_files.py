"""Tables of data from files of several formats: columns by name."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanpinn.errors import UserError, one_line
from kanpinn.io.sample_data import is_sample, sample
from kanpinn.io.table import MOST_LINES, read_columns, read_table
from kanpinn.options import decimal

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
COLOURS = ("red", "green", "blue")
FORMATS = f"CSV, HDF5 (.h5), NumPy (.npy, .npz), an image ({', '.join(IMAGES)}) or IDX, as of MNIST (…-ubyte)"

Column = np.ndarray
"""Numbers in float64, or texts."""


def read_data_file(file: Path, key: str, target: Sequence[str] = (), inputs: Sequence[str] = ()) -> dict[str, Column]:
    """Read a table of one of `FORMATS`, the format being told by the end of its name; or one of `sample`'s.

    An image gives the columns x, y, from the left and from below in pixels, and grey or red, green and blue from 0 to
    1. Images in IDX give p1, p2 …, and their label from the file of labels beside them. An array `[N, c]` gives c1, c2
    …; one called a, in a file with others, a1, a2 …

    Args:
        file: The file.
        key: Key it was given under, for messages.
        target: Columns that may be texts, and are then classes.
        inputs: Columns that must be numbers.

    Returns:
        Columns `[N]` by name.

    Raises:
        UserError: If it cannot be read, or a number is not finite.
    """
    suffix = file.suffix.lower()
    if is_sample(str(file)):
        given = sample(str(file), key)
        found = given if isinstance(given, dict) else _pixels(given)
    elif suffix in IMAGES:
        found = _image(file, key)
    elif suffix in (".npy", ".npz"):
        found = _arrays(file, key)
    elif "ubyte" in file.name:
        found = _idx(file, key)
    elif suffix in (".h5", ".hdf5"):
        found = read_columns(file, key)
    else:
        return _csv(file, key, target, inputs)
    if not found or len({len(column) for column in found.values()}) != 1:
        sizes = ", ".join(f"{name}: {len(column)}" for name, column in found.items())
        raise UserError(f"{key}={file}: expected columns of one length, found {sizes[:200] or 'none'}")
    for name, column in found.items():
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            at = int(np.flatnonzero(~np.isfinite(column))[0])
            raise UserError(f"{key}={file}: row {at + 1}: {name}={column[at]}: expected a finite number")
    return found


def is_image(name: str) -> bool:
    """Tell whether a name is that of an image."""
    return Path(name).suffix.lower() in IMAGES or name.startswith("scikit-image:")


def _csv(file: Path, key: str, target: Sequence[str], inputs: Sequence[str]) -> dict[str, Column]:
    """Columns of a CSV file; targets without any number are texts."""
    table = read_table(file, key)
    texts = {}
    for name in dict.fromkeys(target):
        if table.header.count(name) == 1:
            cells = [row[table.header.index(name)] for row in table.rows]
            wrong = [k for k, cell in enumerate(cells) if math.isnan(decimal(cell))]
            if 0 < len(wrong) < len(cells):
                where = f"line {table.lines[wrong[0]]}: {name}={cells[wrong[0]]!r}"
                raise UserError(
                    f"{key}={file}: {where}: expected a finite number; or for classes, labels none of which is a number"
                )
            if wrong:
                texts[name] = np.array(cells)
                if "" in cells:
                    raise UserError(f"{key}={file}: line {table.lines[cells.index('')]}: {name} is empty")
    wanted = [name for name in (*target, *inputs) if name in table.header and name not in texts]
    return {**read_columns(file, key, wanted, list(texts)), **texts}


def _image(file: Path, key: str) -> dict[str, Column]:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            if opened.width * opened.height > MOST_LINES:
                size = f"{opened.width} × {opened.height}"
                raise UserError(f"{key}={file}: {size} pixels; expected at most {MOST_LINES:,}")
            image = ImageOps.exif_transpose(opened)  # cameras store turned pictures with the way up beside them
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
            deep, real = image.mode.startswith("I"), image.mode == "F"
            values = np.asarray(image if deep or real else image.convert("L" if grey else "RGB"), dtype=float)
    except UserError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{key}={file}: cannot be read as an image ({one_line(error)[:80]})") from None
    return _pixels(values / (1.0 if real else 65535.0 if deep else 255.0))


def _pixels(values: np.ndarray) -> dict[str, Column]:
    """Columns of an image `[rows, columns]` or `[rows, columns, 3]`, its first row at the top."""
    rows, columns = np.mgrid[values.shape[0] - 1 : -1 : -1, : values.shape[1]]
    found = {"x": columns.ravel().astype(float), "y": rows.ravel().astype(float)}
    if values.ndim == 2:
        return {**found, "grey": values.ravel()}
    return {**found, **{name: values[..., k].ravel() for k, name in enumerate(COLOURS)}}


def _arrays(file: Path, key: str) -> dict[str, Column]:
    try:
        with file.open("rb") as stream:
            loaded: Any = np.load(stream, allow_pickle=False)
            arrays = {"c": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{key}={file}: cannot be read as NumPy's ({one_line(error)[:80]})") from None
    found: dict[str, Column] = {}
    for name, array in arrays.items():
        if array.dtype.names:
            found |= {str(field): _plain(array[field], file, key) for field in array.dtype.names}
        elif array.ndim == 2:
            found |= {f"{name}{k + 1}": _plain(column, file, key) for k, column in enumerate(array.T)}
        else:
            found[name] = _plain(array, file, key)
    return found


def _plain(column: np.ndarray, file: Path, key: str) -> Column:
    """A column of numbers as float64, or of texts."""
    if column.ndim != 1 or column.dtype.kind not in "fiubUS":
        raise UserError(f"{key}={file}: an array {column.shape} of {column.dtype}; expected numbers, (N,) or (N, c)")
    return column.astype(str) if column.dtype.kind in "US" else column.astype(np.float64)


def _idx(file: Path, key: str) -> dict[str, Column]:
    """Images and labels in IDX (LeCun, Cortes and Burges, The MNIST database, "File formats")."""
    images = _idx_array(file, key)
    found = {f"p{k + 1}": column for k, column in enumerate(images.reshape(len(images), -1).T.astype(np.float64))}
    beside = file.with_name(file.name.replace("images", "labels").replace("idx3", "idx1"))
    if beside != file and beside.exists():
        found["label"] = _idx_array(beside, key).astype(np.float64)
    return found


def _idx_array(file: Path, key: str) -> np.ndarray:
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        rank = content[3] if content[:3] == b"\0\0\x08" else 0
        shape = np.frombuffer(content, ">u4", rank, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape) if rank else _no_idx()
    except (OSError, ValueError, IndexError, EOFError) as error:
        raise UserError(f"{key}={file}: cannot be read as IDX of bytes ({one_line(error)[:80]})") from None


def _no_idx() -> np.ndarray:
    raise ValueError("it does not begin as one")
