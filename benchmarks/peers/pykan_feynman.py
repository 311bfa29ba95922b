"""One law of `feynman.py` by pykan 0.2.8, as its tutorial `hellokan` goes about it.

    python benchmarks/peers/pykan_feynman.py NUMBER NOISE

A KAN [n, 5, 1] of cubic splines on 3 intervals, in float64: 50 steps of L-BFGS with λ = 0.001, prune, 50 steps, refine
to 10 intervals, 50 steps, `auto_symbolic`, 50 steps. 800 of the rows are trained, the rest is its test set. The formula
is printed as it is before the last steps and after them, with all digits.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["MPLBACKEND"] = "Agg"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from feynman import JUDGED
from kan import KAN

STEPS, LAMB = 50, 0.001


def main() -> None:
    """Fit the law and print its formulas, each after the mark."""
    number, noise = int(sys.argv[1]), float(sys.argv[2])
    law = next(one for one in JUDGED if one.number == number)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    points, values = (torch.from_numpy(one) for one in law.table(noise))
    rows: dict[str, Any] = {"train_input": points[:800], "test_input": points[800:]}
    rows |= {"train_label": values[:800, None], "test_label": values[800:, None]}
    os.chdir(tempfile.mkdtemp())
    model = KAN(width=[len(law.names), 5, 1], grid=3, k=3, seed=0)
    model.fit(rows, opt="LBFGS", steps=STEPS, lamb=LAMB)
    model = model.prune()
    model.fit(rows, opt="LBFGS", steps=STEPS)
    model = model.refine(10)
    model.fit(rows, opt="LBFGS", steps=STEPS)
    model.auto_symbolic()
    for k in range(2):
        if k:
            model.fit(rows, opt="LBFGS", steps=STEPS)
        print(f"@@{model.symbolic_formula(var=law.names)[0][0]}", flush=True)


if __name__ == "__main__":
    main()
