"""Interpolations of a config replaced: the problem's recommendations, and the config as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from kanpinn.errors import UserError, one_line
from kanpinn.settings.config_limits import check_interpolations, check_resolved

_ABSENT = object()


def tuned(path: str, default: Any = None, *, _root_: DictConfig) -> Any:
    """Resolve `${tuned:schedule.steps,100}`: the problem's recommendation for the chosen backbone, or for all.

    It stands under `problem.tuned.<backbone>`, else under `problem.tuned`; the default is taken if in neither place,
    and with `backbone=auto`, which finds its own way.
    """
    backbone = OmegaConf.select(_root_, "backbone.name", default="")
    places = () if backbone == "auto" else (f"problem.tuned.{backbone}.{path}", f"problem.tuned.{path}")
    for place in places:
        value = OmegaConf.select(_root_, place, default=_ABSENT)
        if value is not _ABSENT:
            return value
    # Wrapped, because OmegaConf.resolve cannot store a plain list or dict in place of an interpolation.
    return OmegaConf.create(default) if isinstance(default, list | dict) else default


OmegaConf.register_new_resolver("tuned", tuned, replace=True, use_cache=False)


def resolve(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Turn a config into nested dicts and lists of plain values, every interpolation done.

    Raises:
        UserError: If an interpolation fails or a mandatory value ("???") is missing.
    """
    try:
        created = cfg if isinstance(cfg, DictConfig) else OmegaConf.create(dict(cfg))
        check_interpolations(created)
        plain: Any = OmegaConf.to_container(created, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key}=???: missing; give it as {error.full_key}=VALUE.") from error
    except UserError:
        raise
    except RecursionError as error:
        raise UserError("config: nested without end.") from error
    except (OmegaConfBaseException, AssertionError, TypeError, ValueError) as error:  # for what it cannot hold
        raise UserError(f"{getattr(error, 'full_key', None) or 'config'}: {one_line(error)[:200]}") from error
    check_resolved(plain)
    return {str(key): value for key, value in plain.items()}
