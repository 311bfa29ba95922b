"""Shares of time slabs in the error of the whole: what has died out does not spoil an estimate, what grows does."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kanpinn.estimate.slab_shares import shares


def slab(error, defect, left=0.0, size=1.0):
    return SimpleNamespace(norms={"u": (error, size)}, defect=defect, left=left)


def test_one_slab_is_the_whole():
    assert shares([slab(1e-3, 1e-3, left=1.0)], 0.1).tolist() == [1.0]


def test_errors_that_have_died_out_do_not_matter_however_little_is_represented():
    found = shares([slab(1e-6, 1e-6), slab(1e-12, 1e-12), slab(1e-18, 1e-17, left=1.0)], 0.1)
    assert found[0] == pytest.approx(1) and found[1] == pytest.approx(1e-6) and found[2] == pytest.approx(1e-11)


def test_a_defect_that_grows_later_matters_in_full():
    assert shares([slab(1e-12, 1e-12, left=1.0), slab(1e-9, 1e-12), slab(1e-6, 1e-12)], 0.1)[0] == 1
    # not found by its own slab's splines, and of the size of the others' defects
    assert shares([slab(1e-6, 1e-6), slab(1e-9, 1e-6, left=1.0)], 0.1)[1] == pytest.approx(1)


def test_without_a_slab_that_is_represented_all_matter():
    assert shares([slab(1e-6, 1e-6, left=0.5), slab(1e-12, 1e-12, left=0.5)], 0.1).tolist() == [1, 1]


def test_the_worst_unknown_counts_relative_to_its_size():
    one = SimpleNamespace(norms={"u": (1e-6, 1.0), "v": (1e-6, 1e-3)}, defect=1e-6, left=0.0)
    other = SimpleNamespace(norms={"u": (1e-7, 1.0), "v": (1e-9, 1e-3)}, defect=1e-9, left=1.0)
    assert np.allclose(shares([one, other], 0.1), [1, 1e-3], rtol=0.1)
