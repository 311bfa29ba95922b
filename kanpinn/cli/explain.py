"""`kanpinn explain RUN`: who matters in a trained network, how its functions are built, and a drawing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kanpinn.cli.main import STORED, Parser, number
from kanpinn.errors import EXIT_DONE, UserError


def run(argv: Sequence[str]) -> int:
    """Write explanation.json and figures/network.png, print a summary; raises UserError if the run is none."""
    parser = Parser(
        prog="kanpinn explain",
        description="Say which inputs, nodes and edges of a trained network matter, where the functions it has "
        "learned split into parts, which symmetries they have; draw the network.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--tolerance",
        type=number,
        help="relative error of the network to reckon with (default: the run's own, without noise)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to write (default: the run folder)")
    parser.add_argument("--stored", **STORED)
    arguments = parser.parse_args(argv)
    if arguments.tolerance is not None and not arguments.tolerance > 0:
        raise UserError(f"--tolerance={arguments.tolerance:g}: expected a number above 0")

    from kanpinn.api import load
    from kanpinn.explain.explanation import explanation
    from kanpinn.explain.function_error import errors_of
    from kanpinn.io.atomic import write_text
    from kanpinn.plots.network import network_figure
    from kanpinn.plots.style import save

    solution = load(arguments.run, stored=arguments.stored)
    errors = errors_of(solution.residuals, solution.theta, solution.metrics)
    if arguments.tolerance is not None:
        errors = dict.fromkeys(errors, arguments.tolerance)
    found = explanation(solution.residuals, solution.theta, errors)
    target = arguments.output or arguments.run
    (target / "figures").mkdir(parents=True, exist_ok=True)
    write_text(target / "explanation.json", json.dumps(found, indent=1, ensure_ascii=False))
    for line in summary(found):
        print(line)
    figure = network_figure(found["network"])
    if figure is None:
        print(f"network: {found['network']['reason']}")
    else:
        save(figure, target / "figures" / "network.png", 300)
        print(target / "figures" / "network.png")
    print(target / "explanation.json")
    return EXIT_DONE


def summary(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines on the screen: warnings, inputs and structure of every unknown."""
    yield from (f"warning: {text}" for text in found["warnings"])
    for name, inputs in found["inputs"].items():
        ranked = sorted(inputs, key=lambda one: -inputs[one]["sobol_total"])
        yield f"{name}: share of its variance by " + ", ".join(f"{k} {inputs[k]['sobol_total']:.3f}" for k in ranked)
        if all(inputs[one]["score"] is not None for one in inputs):
            yield "  scores in the network: " + ", ".join(f"{k} {inputs[k]['score']:.3f}" for k in ranked)
        known = found["structure"][name]
        if known["tree"] is None:
            yield f"  structure: not asked for, {known['reason']}"
        else:
            yield f"  structure: {known['form']}, at an error of {known['tolerance']:.1e}"
            yield from _lines(known["tree"], "    ")


def _lines(node: Mapping[str, Any], indent: str) -> Iterator[str]:
    """The tree, a node to a line, with the largest difference of the properties that hold."""
    if node["kind"] in ("variable", "constant"):
        return
    held = [test for test in node["tests"] if test["holds"]]
    told = (
        f" (differences up to {max(t['measured'] / t['tolerance'] for t in held):.2g} of the tolerance)" if held else ""
    )
    yield f"{indent}{node['text']}{told}"
    for part in node["parts"]:
        yield from _lines(part, indent + "  ")
