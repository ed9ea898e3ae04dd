"""Experiments that differ from another by a few keys: `run NAME --set key=value` makes them out of the command line.

A variant is an experiment file like any other, which extends NAME by those keys. So it is a partition with a name, a
config and a lineage of its own, and can be read, kept, edited and run again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.config import Experiment
from itool_pipeline.experiment_files import (
    ConfigError,
    experiment_of,
    experiment_path,
    load_experiment,
    read_content,
    require_new_name,
    write_experiment_file,
)
from itool_pipeline.files.config_yaml import UnreadableYaml, read_yaml, write_yaml

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.+-]+")


@dataclass(frozen=True, slots=True)
class Variant:
    """An experiment that is valid, and the file that it is, or would be.

    content  of the file
    written  whether the file is there
    """

    experiment: Experiment
    path: Path
    content: Mapping[str, Any]
    written: bool


def make_variant(base: str, settings: Sequence[str], name: str | None = None) -> Variant:
    """The variant of the experiment `base` with each `key=value` of `settings`; nothing is written.

    key    the way to it, `preference.optimizer.learning_rate`
    value  YAML, as it would stand in the file
    name   of the variant; without it one is made of the base's name, the last part of each key, and the values

    Raises ConfigError, with key and reason, for what a file would be refused for, and when another experiment has the
    name.
    """
    load_experiment(base)
    keys = _nested_keys(settings)
    name = name or _readable_name(base, settings)
    require_new_name(name, "--as")
    path = experiment_path(name)
    content = {"extends": base, "description": f"{base} with {', '.join(settings)}", **keys}
    if path.exists():
        if _without_description(read_content(path)) != _without_description(content):
            raise ConfigError(f"{path}: there is another experiment of this name already; give this one one with --as")
        return Variant(load_experiment(name), path, content, written=True)
    return Variant(experiment_of(content, path, said_in=f"{base} --set"), path, content, written=False)


def write_variant(variant: Variant) -> None:
    """Writes the file, unless it is there. Raises StorageError when it cannot be written."""
    if not variant.written:
        write_experiment_file(variant.path, write_yaml(dict(variant.content)))


def _nested_keys(settings: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1", "c=x"]` → `{"a": {"b": 1}, "c": "x"}`."""
    nested: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        *way, last = key.split(".")
        if not equals or not all((*way, last)):
            raise ConfigError(f"--set {setting}: must be key=value, with a dotted way to the key")
        if key == "extends":
            raise ConfigError("--set extends: what is extended is the experiment itself; name another")
        try:
            value = read_yaml(text)
        except UnreadableYaml as error:
            raise ConfigError(f"--set {key}: the value cannot be read as YAML: {error}") from error
        inner = nested
        for part in way:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"--set {key}: {part} is set already, as a whole")
        if last in inner:
            raise ConfigError(f"--set {key}: is set twice")
        inner[last] = value
    return nested


def _readable_name(base: str, settings: Sequence[str]) -> str:
    """`demo` and `a.learning_rate=1e-5` → `demo__learning_rate_1e-5`."""
    parts = [base]
    for setting in settings:
        key, _, text = setting.partition("=")
        parts.append(f"{key.split('.')[-1]}_{_NOT_IN_NAMES.sub('-', text).strip('-')}")
    return "__".join(parts)


def _without_description(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != "description"}
