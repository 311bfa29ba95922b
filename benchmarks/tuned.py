"""Recommendations of the shipped problems, left out part by part: the runs of `benchmarks/tuned.md`.

    python benchmarks/tuned.py --problems wave heat [--parts weights sampler.growth …] [--seeds 0 1 2]
    python benchmarks/tuned_table.py

A part is a key of the section, such as weights, sampler, sampler.growth or schedule.slabs, also in what stands there
for the default's network alone (of that only: separable.schedule); "network" is all of the network's own options,
"all" the whole section, "auto" that with `backbone=auto` and twice the default's seconds; "a+b" leaves out both. Each
run is one of `kanpinn solve` in a process of its own on one thread, in a folder whose `conf/problem` has the problem's
file without the part. It is killed once it has taken --most times the processor seconds of the default of that seed,
which is run first. Finished runs are rows of the CSV file and are not repeated; a row tells what was left out, so that
the table knows it when it is gone.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import rows
import yaml
from omegaconf import OmegaConf
from process import measured
from sources import ROOT

from kanpinn.settings.user_files import read_yaml

CSV = Path(__file__).with_suffix(".csv")
FLAGS = CSV.with_name("flags.csv")
"""Default runs of all problems."""
SETTINGS = ("threads=1", "output.figures=false", "output.progress=false", "hydra.run.dir=run")
SHARED = ("weights", "growth", "embedding", "sampler", "schedule")
LONGEST = 900
"""Seconds after which a run is killed in any case."""
ERROR, SECONDS = 3.0, 2.0
"""Ratios to the default's up to which a part is superfluous."""

Section = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Finished run, one row of the CSV file.

    Attributes:
        problem: Name of the problem.
        words: Further overrides of both runs, "" for none.
        part: What was left out; "" for the default run.
        value: What stood there, as YAML.
        seed: The seed.
        error: Relative L2 error of the worst unknown; infinite for a run that was killed or failed.
        cpu_s: Processor seconds of the process, user and system.
        training_s: Seconds of training, as the run tells them.
        status: Status of the run; "killed" if its time was up.
        flags: Kinds of its warnings.
        date: Its day.
    """

    problem: str
    words: str
    part: str
    value: str
    seed: int
    error: float
    cpu_s: float
    training_s: float
    status: str
    flags: str
    date: str

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Identity of a run."""
        return self.problem, self.words, self.part, self.seed


def text_of(problem: str) -> dict[str, Any]:
    """Return what a problem's file says."""
    text: Any = OmegaConf.to_container(read_yaml(ROOT / "conf" / "problem" / f"{problem}.yaml"))
    return text


def network_of(problem: str, words: Sequence[str] = ()) -> str:
    """Return the network of a problem's run."""
    for word in words:
        if word.startswith("backbone="):
            return word.partition("=")[2]
    entries = text_of(problem).get("defaults", [])
    return next((name for entry in entries for key, name in entry.items() if "/backbone" in key), "kan")


def without(section: Section, part: str, network: str) -> tuple[Section, Section]:
    """Return a section without a part, and what was taken from it.

    Raises:
        SystemExit: If it has no such part.
    """
    left, taken = deepcopy(section), {}
    own = [key for key in section.get(network, {}) if key not in SHARED]
    wide = {"all": list(section), "auto": list(section), "network": [f"{network}.{key}" for key in own]}
    for one in part.split("+"):
        found = [place for place in wide.get(one, (one, f"{network}.{one}")) if at(left, place) is not None]
        if not found:
            raise SystemExit(f"{one}: not in {left}")
        for place in found:
            above, _, key = place.rpartition(".")
            taken[place] = at(left, above).pop(key)
    return {key: value for key, value in left.items() if value != {}}, taken


def at(section: Any, place: str) -> Any:
    """Return what stands at a place in a section, None for nothing."""
    for key in filter(None, place.split(".")):
        section = section.get(key) if isinstance(section, Mapping) else None
    return section


def parts(section: Section, network: str) -> list[str]:
    """Return the parts of a section that a run with this network uses, whole keys before the keys in them."""
    own = section.get(network, {})
    found: list[str] = []
    for key in (key for key in SHARED if key in section or key in own):
        both = (section.get(key), own.get(key))
        inner = [name for one in both if key in ("sampler", "schedule") and one for name in one]
        found += [key, *(f"{key}.{name}" for name in dict.fromkeys(inner))]
        found += [f"{network}.{key}"] if None not in both else []
    options = [f"{network}.{key}" for key in own if key not in SHARED]
    return [*found, *(["network"] if options else []), *options, "all", "auto"]


def solved(problem: str, words: Sequence[str], part: str, seed: int, default: Run | None, most: float) -> Run:
    """Solve a problem without a part of its section in a process of its own."""
    text = text_of(problem)
    taken: Section = {}
    more = list(words)
    if part:
        left, taken = without(text["tuned"], part, network_of(problem, words))
        text = {**text, "tuned": left} if left else {key: value for key, value in text.items() if key != "tuned"}
    limit = math.ceil(most * default.cpu_s) if default and part != "auto" else LONGEST
    if part == "auto":
        assert default is not None
        more += ["backbone=auto", f"time_limit_s={SECONDS * default.training_s:.1f}"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / "conf" / "problem"
        folder.mkdir(parents=True)
        written = yaml.safe_dump(text, sort_keys=False, width=10**6, default_flow_style=None)
        (folder / f"{problem}.yaml").write_text(written, encoding="utf-8")
        command = [sys.executable, "-m", "kanpinn", "solve", f"problem={problem}", f"seed={seed}", *more, *SETTINGS]
        bounded = ["sh", "-c", 'ulimit -t "$0" && exec "$@"', str(limit), *command]  # seconds of the processor
        cost = measured(bounded, Path(place), LONGEST)
        told: dict[str, Any] = {"status": "killed" if cost.exit_code < 0 else "failed"}
        with suppress(OSError):
            told = json.loads((Path(place) / "run" / "metrics.json").read_text(encoding="utf-8"))
    if told["status"] == "failed":
        print(cost.complaint, file=sys.stderr)
    errors = [math.inf if one is None else one for one in (told.get("relative_l2") or {}).values()]
    return Run(
        problem,
        " ".join(words),
        part,
        yaml.safe_dump(taken, default_flow_style=True, sort_keys=False, width=10**6).strip() if taken else "",
        seed,
        max(errors, default=math.inf),
        cost.cpu_s,
        round(told.get("wall_time_s", math.nan), 2),
        told["status"],
        " ".join(sorted({flag["kind"] for flag in told.get("warnings", [])})),
        date.today().isoformat(),
    )


def recorded(first: Run | None, seed: int) -> Run | None:
    """Return the default run of a further seed as `flags.csv` has it, where that has the error of the first as well.

    It has no date, and its seconds are not numbers.
    """
    if first is None or first.words:
        return None
    with FLAGS.open(newline="", encoding="utf-8") as file:
        found = {int(row["seed"]): row for row in csv.DictReader(file) if row["problem"] == first.problem}
    if seed not in found or not math.isclose(float(found[first.seed]["relative_l2"]), first.error, rel_tol=1e-6):
        return None
    told = found[seed]
    known = {"error": float(told["relative_l2"]), "status": told["status"], "flags": told["flags"], "date": ""}
    return replace(first, seed=seed, cpu_s=math.nan, training_s=math.nan, **known)


def main() -> None:
    parser = argparse.ArgumentParser(description="Leave out recommendations of shipped problems, part by part.")
    add = parser.add_argument
    add("--problems", nargs="+", default=[], metavar="P")
    add("--parts", nargs="+", metavar="PART", help="default: all that the run uses")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of all runs, such as backbone=mlp")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    add("--most", type=float, default=2.5, help="times the default's seconds (default: %(default)s)")
    add("--csv", type=Path, default=CSV, help="default: %(default)s")
    given = parser.parse_args()
    for problem in given.problems:
        words = " ".join(given.set)
        chosen = given.parts or parts(text_of(problem)["tuned"], network_of(problem, given.set))
        for seed in given.seeds:
            for part in dict.fromkeys(["", *chosen]):
                known = {run.key: run for run in rows.read(given.csv, Run)}
                if (problem, words, part, seed) in known:
                    continue
                first = known.get((problem, words, "", 0))
                default = known.get((problem, words, "", seed)) or recorded(first, seed)
                if default and not part:
                    rows.append(given.csv, default)
                    continue
                run = solved(problem, given.set, part, seed, first or default, given.most)
                rows.append(given.csv, run)
                what = f"{problem} {part or 'default'} seed {seed}"
                print(f"{what}: {run.error:.2e} {run.cpu_s} s", run.status, run.flags, flush=True)


if __name__ == "__main__":
    main()
