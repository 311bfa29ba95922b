"""Data that come with scikit-image and scikit-learn, called by names in place of a file's."""

from __future__ import annotations

import re

import numpy as np

from kanpinn.errors import UserError, needed

PLACES = ("scikit-image:", "scikit-learn:")
"""Beginnings of the names."""

NAMES = "scikit-image:camera/64, /512; scikit-learn:digits, digits/train, digits/test"
DRAWN, TEST = 20261130, 360
"""Seed and number of the digits laid aside for the test, a fifth of all."""


def is_sample(name: str) -> bool:
    """Tell whether a name is that of such data rather than of a file."""
    return name.startswith(PLACES)


def sample(name: str, key: str) -> np.ndarray | dict[str, np.ndarray]:
    """Return grey values `[rows, columns]` in [0, 1] of an image, or the columns of a table.

    `scikit-image:camera` has 512 × 512 pixels, `scikit-image:camera/64` the means of 64 × 64 blocks of them.
    `scikit-learn:digits` are 1797 digits of 8 × 8 pixels, p1 … p64, with their label; `/train` and `/test` are parts of
    them, drawn once.

    Args:
        name: The name.
        key: Key it was given under, for messages.

    Raises:
        UserError: If there are none of this name, or the library is missing.
    """
    if found := re.fullmatch(r"scikit-image:camera(?:/(\d+))?", name):
        side = int(found[1] or 512)
        if side < 2 or 512 % side:
            raise UserError(f"{key}={name}: expected a side that divides 512, such as 64")
        return _camera(side, f"{key}={name}:")
    if found := re.fullmatch(r"scikit-learn:digits(?:/(train|test))?", name):
        return _digits(found[1] or "", f"{key}={name}:")
    raise UserError(f"{key}={name}: unknown; valid choices: {NAMES}.")


def _camera(side: int, who: str) -> np.ndarray:
    needed("skimage", who, "science")
    camera = needed("skimage.data", who, "science").camera
    block = 512 // side
    return (camera() / 255.0).reshape(side, block, side, block).mean(axis=(1, 3))


def _digits(part: str, who: str) -> dict[str, np.ndarray]:
    needed("sklearn", who, "science")
    datasets = needed("sklearn.datasets", who, "science")
    pixels, labels = map(np.asarray, datasets.load_digits(return_X_y=True))
    order = np.random.default_rng(DRAWN).permutation(len(pixels))
    chosen = {"": np.arange(len(pixels)), "train": order[TEST:], "test": order[:TEST]}[part]
    columns = {f"p{k + 1}": column.astype(np.float64) for k, column in enumerate(pixels[chosen].T)}
    return {**columns, "label": labels[chosen].astype(np.float64)}
