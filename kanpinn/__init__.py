"""Physics-informed Kolmogorov-Arnold networks, trained level by level on exactly nested splines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# The threads of torch wait for each other hundreds of times a step. By default they spin for milliseconds, which on a
# core that other work needs too more than doubles the time of a step; a short spin costs little on an idle machine.
# It has an effect only if torch is not imported yet.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:
    from kanpinn.api import Solution, load, solve

__all__ = ["Solution", "load", "solve"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the Python calls when first used: `import kanpinn` alone does not load torch."""
    if name in __all__:
        from kanpinn import api

        return getattr(api, name)
    raise AttributeError(f"module 'kanpinn' has no attribute '{name}'")
