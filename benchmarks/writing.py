"""Seconds and memory to write a field of 512 × 512 × 64 numbers: a smooth one, one of a network's rounding, and noise.

Run: `python benchmarks/writing.py`. Memory is what the process holds at most while it writes, beyond the field itself.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from kanpinn.io.solution import SolutionFile, write_solution


def fields() -> dict[str, np.ndarray]:
    """Fields over (t, y, x), the first two like solutions and their errors."""
    t, y, x = np.linspace(0, 1, 64), np.linspace(-1, 1, 512), np.linspace(-1, 1, 512)
    smooth = np.exp(-t)[:, None, None] * np.sin(np.pi * y)[:, None] * np.sin(np.pi * x)
    noise = np.random.default_rng(0).normal(size=smooth.shape)
    return {"smooth": smooth, "smooth and noise of 1e-9": smooth + 1e-9 * noise, "noise": noise}


def resident() -> int:
    """Bytes this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(values: np.ndarray, folder: Path) -> tuple[float, float, float, float]:
    """Seconds, processor seconds, memory and file size, both as multiples of the field's."""
    axes = dict(zip("tyx", (np.linspace(0, 1, n) for n in values.shape), strict=True))
    data = SolutionFile("", "", "", 0, "float64", "converged", axes, {}, {"u": values})
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    before = resident()
    watcher = threading.Thread(target=watch)
    watcher.start()
    start, worked = time.perf_counter(), time.process_time()
    write_solution(folder / "solution.h5", data)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    done.set()
    watcher.join()
    size = (folder / "solution.h5").stat().st_size
    return seconds, worked, max(peak[0] - before, 0) / values.nbytes, size / values.nbytes


if __name__ == "__main__":
    print("| field | seconds | of processor | memory beside the field | file |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, values in fields().items():
            best = min(measure(values, Path(folder)) for _ in range(3))
            print("| {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} |".format(name, *best))
