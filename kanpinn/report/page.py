"""Pages from templates: everything put into one is escaped, and the page itself forbids what it does not hold."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kanpinn
from kanpinn.report.charts import RAISED

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Slider:
    """Pictures of one figure at several values of a parameter, one of which is shown at a time."""

    name: str
    places: tuple[tuple[str, Picture], ...]

    @property
    def middle(self) -> int:
        """Number of the value shown first."""
        return len(self.places) // 2


@dataclass(frozen=True)
class Picture:
    """A figure inside a page: its PNG as a data URI, its size in CSS pixels, its name in two or three words.

    The caption tells its content, `alt` the same to those who cannot see it; a wide one takes the whole width.
    """

    source: str
    width: int
    height: int
    title: str
    caption: str
    alt: str
    wide: bool = True


def picture(figure: Figure, title: str, caption: str, alt: str, dpi: int) -> Picture:
    """Turn a figure with its words into one that a page can hold, 96 CSS pixels to the inch."""
    from kanpinn.plots.style import png

    content = png(figure, dpi)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Picture(source, width, height, title, caption, alt)


def paired(pictures: Sequence[Picture], narrow: int = 620) -> list[Picture]:
    """Let narrow pictures that follow each other, of so many CSS pixels at most, stand side by side."""
    out = list(pictures)
    k = 0
    while k + 1 < len(out):
        if max(out[k].width, out[k + 1].width) <= narrow:
            out[k : k + 2] = [replace(out[k], wide=False), replace(out[k + 1], wide=False)]
            k += 1
        k += 1
    return out


def number(value: Any, digits: int = 3) -> str:
    """Write a number for a table: "1.23×10⁻⁷", "0.5", "12 345"; a dash for None, other values as they are."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
    if value == 0 or 0.01 <= abs(value) < 1e5:
        return f"{value:.{digits}g}".replace("-", "−") if abs(value) < 10**digits else f"{value:.0f}".replace("-", "−")
    if not math.isfinite(value):
        return "not finite"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}×10{str(int(exponent)).translate(RAISED)}".replace("-", "−")


def equation(text: str) -> Markup:
    """Set a line such as `u_t = nu u_xx` in HTML: subscripts, Greek letters; everything in it is escaped."""
    from markupsafe import Markup, escape

    from kanpinn.plots.style import GREEK, NAMES, spelled

    safe = str(escape(text))
    safe = re.sub(rf"(?<![\w&])({NAMES})(?![^\W_])", lambda found: GREEK[found[1]], safe)
    safe = re.sub(r"_(\w+)", lambda found: f"<sub>{spelled(found[1], GREEK.__getitem__)}</sub>", safe)
    return Markup(safe)  # escaped above; the only tags are those just put in


def seconds(value: Any) -> str:
    """Write a duration in seconds: "8.1 s", "2 min 5 s", "1 h 3 min"; a dash for None."""
    if not isinstance(value, int | float):
        return "–"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "seconds": seconds, "equation": equation}
    return environment


def render(template: str, content: Mapping[str, Any]) -> str:
    """Fill a template; texts in its content are escaped.

    The page's security policy allows its own script, its styles and images within it, and nothing else.
    """
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    fixed = {
        "style": (_FOLDER / "page.css").read_text(encoding="utf-8"),
        "script": script,
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "version": kanpinn.__version__,
    }
    return _environment().get_template(template).render({**content, **fixed})
