"""One YAML file in `experiments/` is one experiment is one Dagster partition.

A file may start from another with `extends: <name>`; mappings are merged key by key, everything else is replaced.
Unknown keys, wrong types and values out of range are refused with file, key and reason.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from itool_pipeline.config import Experiment
from itool_pipeline.errors import ActionableError

SHIPPED = Path(__file__).parent / "experiments"
"""The experiments of the package; any experiment file may extend them."""


class ConfigError(ActionableError):
    """A config file is missing, unreadable or invalid. The message names the file, the key and the reason."""


def experiments_dir() -> Path:
    """Where experiment files live: `ITOOL_EXPERIMENTS`, or the package's own folder."""
    return Path(os.environ.get("ITOOL_EXPERIMENTS") or SHIPPED)


def experiment_names() -> list[str]:
    """Names of all experiments, sorted."""
    return sorted(path.stem for path in experiments_dir().glob("*.yaml"))


class _Loader(yaml.SafeLoader):
    """PyYAML takes `1e-6` for a string where people mean a number, and the last of two equal keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read(path: Path, asked_by: Path | None = None) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        where = f"{asked_by}: extends: " if asked_by else ""
        raise ConfigError(f"{where}{path}: no such experiment; there are: {known}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping of keys to values")
    return content


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` wins; mappings are merged. A mapping that names another `type` replaces the whole mapping."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type"):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _resolve(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in seen:
        raise ConfigError(f"{path}: extends: goes round in a circle: {' → '.join(p.stem for p in (*seen, path))}")
    content = _read(path, seen[-1] if seen else None)
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends: must name one experiment")
    beside, shipped = path.parent / f"{base}.yaml", SHIPPED / f"{base}.yaml"
    inherited = _resolve(shipped if shipped.exists() and not beside.exists() else beside, (*seen, path))
    for own in ("description", "scheduled"):
        inherited.pop(own, None)
    return _merge(inherited, content)


def _tuples(value: Any) -> Any:
    """YAML has lists where the frozen config has tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def load_experiment(name: str) -> Experiment:
    """The experiment in `experiments/<name>.yaml`.

    Raises ConfigError, with file, key and reason, when the file is missing or anything in it is not as declared.
    """
    path = experiments_dir() / f"{name}.yaml"
    content = _resolve(path)
    if "name" in content:
        raise ConfigError(f"{path}: name: the file's name is the experiment's name; remove the key")
    try:
        return Experiment.model_validate(_tuples({**content, "name": name}))
    except ValidationError as error:
        problems = "\n".join(
            f"{path}: {'.'.join(map(str, e['loc'])) or 'experiment'}: {e['msg']} (given: {e['input']!r})"
            for e in error.errors()
        )
        raise ConfigError(problems) from error
