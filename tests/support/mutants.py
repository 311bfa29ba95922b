"""Mutation testing of the numerical core: a seeded sample of small changes, each held against the tests that reach it.

    make mutants [SAMPLE=300] [SEED=17] [ROOMS="jets splines"] [PROCESSES=2]

mutmut (`[tool.mutmut]` in pyproject.toml) writes the mutants, finds by one run of the tests named there which of them
call which function, and forks a process for each mutant. Texts are left alone: changed messages are no numerics; so is
the `strict` of `zip`, which no run reads unless something else is wrong. A mutant faces the tests of its own module
first, then those of WIDE, then all others, the quickest first, up to SECONDS of them, until one fails.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import random
import re
import resource
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import mutmut.__main__ as tool
import pytest
from mutmut.configuration import config
from mutmut.mutation import mutators
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.utils.file_utils import change_cwd, copy_also_copy_files, copy_src_dir, setup_source_paths
from mutmut.utils.format_utils import get_module_from_key, mangled_name_from_mutant_name
from mutmut.workers.isolation import ForkServerRunner

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "outputs" / "mutants" / "report.md"
SECONDS = 40.0
MEMORY = 12 * 2**30
ELSEWHERE = ["tests/test_wrapped.py::test_two_processes_with_half_the_points_each_take_the_steps_of_one"]
"""Tests whose work is done by processes that they start, where it is not seen which functions they reach."""


WIDE = ("recorded", "ways", "evaluations", "linearizations")
"""Files of tests that compare every number of what many modules do together."""


class Collector(PytestRunner):
    """Notes which tests reach which function; those that fail among trampolines count for none."""

    def warm_up(self) -> None:
        """Import all tests, and note which functions that calls: their mutants must see it happen again."""
        stop_noting = noting()
        super().warm_up()
        self.called = stop_noting()

    def run_tests(self, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        """Run the tests of a mutant in a process of their own."""
        forget()
        if mutant_name and mangled_name_from_mutant_name(mutant_name) in self.called:
            own = ("kanpinn", "support", "conftest", "test_")
            for name in [name for name in sys.modules if name.startswith(own)]:
                del sys.modules[name]
        return super().run_tests(mutant_name=mutant_name, tests=tests)

    def run_stats(self, *, tests: Iterable[str]) -> int:
        """Run the tests, or those of the settings, and keep what they reach and how long they take."""
        reached, seconds, hit = state().tests_by_mangled_function_name, state().duration_by_test, state()._stats
        noting()
        while_collected: defaultdict[str, set[str]] = defaultdict(set)

        class Notes:
            def pytest_collectreport(self, report: pytest.CollectReport) -> None:
                while_collected[report.nodeid.partition("::")[0]] |= hit
                hit.clear()

            def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
                if report.when == "call":
                    seconds[report.nodeid] = report.duration
                    for function in hit | while_collected[report.nodeid.partition("::")[0]] if report.passed else ():
                        reached[function].add(report.nodeid)
                if report.failed:
                    print(f"no test for mutants: {report.nodeid}", file=sys.__stdout__, flush=True)
                if report.when == "teardown":
                    hit.clear()
                    forget()
                    print(f"{len(seconds)} tests", end="\r", file=sys.__stdout__, flush=True)

        with change_cwd("mutants"):
            code = self.execute_pytest(
                ["-q", *(tests or config().pytest_add_cli_args_test_selection)], plugins=[Notes()]
            )
        if not seconds:
            sys.exit(f"no test ran: pytest ended with {code}; run it in mutants/ to see why")
        return 0


def noting() -> Callable[[], set[str]]:
    """Note which functions are called from now on, not in other processes; returns what ends that and tells them."""
    set_mutant_under_test("stats")
    os.environ.pop("MUTANT_UNDER_TEST", None)

    def stop() -> set[str]:
        set_mutant_under_test("")
        return set(state()._stats)

    return stop


def forget() -> None:
    """Empty the package's caches, or only the first test that needs a result would be seen to compute it."""
    modules = [module for name, module in sys.modules.items() if name.startswith("kanpinn")]
    for value in [value for module in modules for value in vars(module).values()]:
        if isinstance(value, functools._lru_cache_wrapper):
            value.cache_clear()


def prepared(processes: int) -> ForkServerRunner:
    """Write all mutants of the sources, and note by one run which tests reach which function."""
    set_mutant_under_test("mutant_generation")
    mutators.mutation_operators.remove((mutators.cst.BaseString, mutators.operator_string))
    Path("mutants").mkdir(exist_ok=True)
    for folder in ("benchmarks", "conf", "problems"):
        if not Path("mutants", folder).is_symlink():
            Path("mutants", folder).symlink_to(Path("..", folder))
    copy_src_dir()
    copy_also_copy_files()
    setup_source_paths()
    tool.create_mutants(processes)
    runner = ForkServerRunner(processes, Collector, {})
    tool.collect_or_load_stats(runner)
    set_mutant_under_test("")
    return runner


def drawn(sample: int, seed: int, rooms: list[str]) -> list[str]:
    """Names of a sample of the mutants in some rooms; all rooms if none is named."""
    found = tool.collect_source_file_mutation_data(mutant_names=())[0]
    names = sorted(name for _, name, _ in found if not rooms or name.split(".")[1] in rooms)
    shuffled = random.Random(seed).sample(names, len(names))
    return sorted(itertools.islice((name for name in shuffled if sample >= len(names) or reads(name)), sample))


def difference(name: str) -> str:
    """What a mutant changes, as lines of a diff."""
    return get_diff_for_mutant(name, path=Path(get_module_from_key(name).replace(".", "/") + ".py"))


def reads(name: str) -> bool:
    """Tell whether a mutant changes more than the `strict` of a `zip`."""
    lines = [re.sub(r",\s*(strict=\w+)?\s*\)", ")", line) for line in difference(name).splitlines()[2:]]
    return [line[1:] for line in lines if line[:1] == "-"] != [line[1:] for line in lines if line[:1] == "+"]


def tests_of(name: str) -> tuple[list[str], float]:
    """Tests for a mutant in the order to run them, those named after its module first, then WIDE; their seconds."""
    words = get_module_from_key(name).split(".")[1:]

    def order(test: str) -> tuple[int, float]:
        file = test.partition("::")[0]
        place = 0 if any(word in file for word in words) else 1 if any(word in file for word in WIDE) else 2
        return place, state().duration_by_test[test]

    kept, seconds = [], 0.0
    reached = state().tests_by_mangled_function_name[mangled_name_from_mutant_name(name)]
    for test in sorted(reached or ELSEWHERE, key=order):
        if kept and seconds + state().duration_by_test[test] > SECONDS:
            break
        kept.append(test)
        seconds += state().duration_by_test[test]
    return kept, seconds


def held_against_tests(runner: ForkServerRunner, names: list[str]) -> dict[str, str]:
    """Run the tests of every mutant; how each ended: caught, survived, no test."""
    found: dict[str, str] = {}
    begun = time.monotonic()

    def collect() -> None:
        result = runner.wait_for_result()
        found[result.mutant_name] = {0: "survived", 5: "no test", 33: "no test"}.get(result.exit_code, "caught")
        line = f"{len(found)}/{len(names)} {time.monotonic() - begun:.0f} s  {found[result.mutant_name]}"
        print(f"{line}  {result.mutant_name}", flush=True)

    runner.startup()
    for name in names:
        while not runner.has_capacity():
            collect()
        tests, seconds = tests_of(name)
        runner.submit(name, tests, int(2 * (30 + 4 * seconds)), seconds)
    runner.signal_work_complete()
    while runner.pending_count():
        collect()
    runner.shutdown()
    return found


def report(found: dict[str, str], of: int, command: str) -> str:
    """Rates by room, and the differences of those that no test has noticed."""
    counts = Counter((name.split(".")[1], status == "caught") for name, status in found.items())
    caught = sum(status == "caught" for status in found.values())
    lines = [f"# {caught} of {len(found)} mutants caught: {100 * caught / len(found):.1f} %", ""]
    lines += [f"`{command}`, drawn from {of} mutants.", "", "| room | caught | of |", "|---|--:|--:|"]
    for room in sorted({room for room, _ in counts}):
        lines.append(f"| {room} | {counts[room, True]} | {counts[room, True] + counts[room, False]} |")
    for name, status in sorted(found.items()):
        if status != "caught":
            lines += ["", f"`{name}` {status}", "", "```diff", difference(name).strip(), "```"]
    return "\n".join([*lines, ""])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=300, help="number of mutants; 0: all")
    parser.add_argument("--seed", type=int, default=17, help="of the sample")
    parser.add_argument("--rooms", nargs="*", default=[], help="jets, splines, …; all by default")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="these mutants, by their names, in place of a sample")
    parser.add_argument("--keep", action="store_true", help="keep the unchanged mutants and durations of the last call")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "mutants")}
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))  # a mutated size asks for anything
    if not arguments.keep:
        shutil.rmtree("mutants", ignore_errors=True)
    runner = prepared(arguments.processes)
    of = len(drawn(10**9, 0, arguments.rooms))
    names = arguments.only or drawn(arguments.sample or of, arguments.seed, arguments.rooms)
    found = held_against_tests(runner, names)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(report(found, of, " ".join(["mutants.py", *sys.argv[1:]])), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
