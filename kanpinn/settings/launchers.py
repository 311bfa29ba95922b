"""Launchers of Hydra's that sweeps may use, and every class that a config may name."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class LauncherPlugin:
    """A launcher of Hydra's that sweeps may use.

    Attributes:
        target: Its class.
        extra: Extra that installs it; "" for one that is always there.
        isolated: True if each job gets a process of its own below the launcher's.
    """

    target: str
    extra: str = ""
    isolated: bool = False

    @property
    def installed(self) -> bool:
        """True if its package is there; does not import it."""
        package = ".".join(self.target.split(".")[:2])
        try:
            return not self.extra or importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:  # no plugin of Hydra's at all
            return False


_SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
_SLURM = LauncherPlugin(f"{_SUBMITIT}.SlurmLauncher", "slurm", isolated=True)
LAUNCHERS = {
    "basic": LauncherPlugin("hydra._internal.core_plugins.basic_launcher.BasicLauncher"),
    "joblib": LauncherPlugin("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "parallel", True),
    "submitit_local": LauncherPlugin(f"{_SUBMITIT}.LocalLauncher", "slurm", isolated=True),
    "submitit_slurm": _SLURM,
    "slurm": _SLURM,  # the same with settings of ours
    "ray": LauncherPlugin("hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher", "ray"),
}
"""Choices of `hydra/launcher`; nothing else is instantiated from a config."""

SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
TARGETS = tuple(dict.fromkeys([SWEEPER, *(plugin.target for plugin in LAUNCHERS.values())]))
"""The classes that Hydra may be asked to make."""
