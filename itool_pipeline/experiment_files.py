"""One YAML file is one experiment is one Dagster partition.

A file may start from another with `extends: <name>`; mappings are merged key by key, everything else is replaced.
With `ablations: [<name>, …]` it makes for each name an experiment more, `<file>__<name>`: itself, changed as that file
changes what it extends.
Unknown keys, wrong types and values out of range are refused with file, key and reason.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from itool_pipeline.config import Experiment
from itool_pipeline.errors import ActionableError
from itool_pipeline.files.config_yaml import UnreadableYaml, read_yaml
from itool_pipeline.files.durable import write_whole
from itool_pipeline.store.paths import storage_paths

SHIPPED = Path(__file__).parent / "experiments"
"""The experiments of the package; any experiment file may extend them."""


_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 200

MAX_NAME_CHARS = 120
MAX_FILE_NAME_BYTES = 200
"""Of a name without its ending; file systems take 255 with it."""
_NEW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_NOT_INHERITED = ("description", "scheduled", "ablations")


class ConfigError(ActionableError):
    """A config file is missing, unreadable or invalid. The message names the file, the key and the reason."""


def experiment_folders() -> tuple[Path, ...]:
    """Where experiment files live: `ITOOL_EXPERIMENTS`, or the package's own folder and one in the storage.

    New ones are written into the last. Raises StorageError when neither names a place that can be written to.
    """
    given = os.environ.get("ITOOL_EXPERIMENTS")
    return (Path(given).expanduser(),) if given else (SHIPPED, storage_paths().experiments)


def experiment_names() -> list[str]:
    """Names of all experiments, sorted: of files, and of the ablations that they list.

    A hidden file is none: editors and other systems leave such beside those that they have to do with.
    """
    paths = [path for folder in experiment_folders() for path in folder.glob("[!.]*.yaml")]
    ablated = {_ablation_name(path.stem, name) for path in paths for name in _listed_ablations(path)}
    return sorted({path.stem for path in paths} | ablated)


def experiment_path(name: str) -> Path:
    """The experiment's file; of one that is not there yet, where it would be written.

    Raises ConfigError when no file can have the name.
    """
    _require_name(name)
    paths = [folder / f"{name}.yaml" for folder in experiment_folders()]
    return next((path for path in paths if path.exists()), paths[-1])


def require_new_name(name: str, option: str) -> None:
    """Raises ConfigError, which names the command line's `option`, for what a new experiment may not be called."""
    if not _NEW_NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        raise ConfigError(
            f"{name!r} cannot be an experiment's name: give one with {option}, of letters, digits and . _ + -, "
            f"of at most {MAX_NAME_CHARS} characters"
        )


def write_experiment_file(path: Path, text: str) -> None:
    """Writes the file, which appears whole. Raises StorageError when it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"), what="an experiment file")


def read_content(path: Path, asked_by: Path | None = None) -> dict[str, Any]:
    """What one file says by itself, or would say if an ablation were a file.

    Raises ConfigError when there is neither, or no YAML mapping.
    """
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (ablated := _ablated(path)) is not None:
            return ablated
        known = ", ".join(experiment_names()) or "none"
        where = f"{asked_by}: extends: " if asked_by else ""
        raise ConfigError(f"{where}{path}: no such experiment; there are: {known}") from None
    except (OSError, UnicodeDecodeError, UnreadableYaml) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping of keys to values")
    return content


def _is_name(name: object) -> bool:
    """Whether it can be a file's name in the experiments' folders, and not the way to one elsewhere."""
    if not isinstance(name, str) or not name.isprintable() or len(name.encode()) > MAX_FILE_NAME_BYTES:
        return False
    return re.fullmatch(r"[^/\\.][^/\\]*", name) is not None and "..." not in name


def _require_name(name: str, said_in: str = "") -> None:
    if not _is_name(name):
        raise ConfigError(
            f"{said_in}{name!r} is no experiment's name: that is a file's in the experiments' folders, without .yaml, "
            "of printable characters and without ..., which Dagster takes for a range"
        )


def _ablation_name(base: str, name: str) -> str:
    return f"{base}__{name}"


def _listed_ablations(path: Path) -> list[str]:
    """What the file lists under `ablations`; nothing where it cannot be read, which loading it says."""
    try:
        listed = read_content(path).get("ablations") if path.exists() else None
    except ConfigError:
        return []
    return [name for name in listed if _is_name(name)] if isinstance(listed, list) else []


def _ablated(path: Path) -> dict[str, Any] | None:
    """The content that an ablation's file would have; None when no experiment lists one of this name."""
    for place in re.finditer("(?=__)", path.stem):
        base, name = path.stem[: place.start()], path.stem[place.start() + 2 :]
        if name in _listed_ablations(_beside_or_shipped(path, base)):
            change = _beside_or_shipped(path, name)
            _extended(read_content(change, path), change)  # says so where it goes round in a circle
            changes = _changes(change, path)
            told = f"{base} - {changes.pop('description', name)}"
            return {"extends": base, "description": told, **changes}
    return None


def _changes(path: Path, asked_by: Path) -> dict[str, Any]:
    """What the file changes of the experiment that it extends, or that those extend which it extends."""
    own = read_content(path, asked_by)
    base = own.pop("extends", None)
    if base is None:
        raise ConfigError(f"{asked_by}: ablations: {path.stem} extends nothing, so it changes nothing")
    other = _beside_or_shipped(path, base)
    return _merge(_changes(other, path), own) if "extends" in read_content(other, path) else own


def _beside_or_shipped(path: Path, name: str) -> Path:
    """The file of the experiment `name` that the file at `path` means."""
    beside, shipped = path.parent / f"{name}.yaml", SHIPPED / f"{name}.yaml"
    return shipped if shipped.exists() and not beside.exists() else beside


def _differ_in_type(base: dict[str, Any], over: dict[str, Any]) -> bool:
    return "type" in base and "type" in over and base["type"] != over["type"]


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` wins; mappings are merged. Of two mappings that name different types, `over` replaces the whole one."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not _differ_in_type(old, value):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _extended(content: Mapping[str, Any], path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The content of the file at `path`, with all that it takes from others."""
    own = dict(content)
    base = own.pop("extends", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends: must name one experiment")
    _require_name(base, f"{path}: extends: ")
    other, seen = _beside_or_shipped(path, base), (*seen, path)
    if other in seen:
        raise ConfigError(f"{other}: extends: goes round in a circle: {' → '.join(p.stem for p in (*seen, other))}")
    inherited = _extended(read_content(other, path), other, seen)
    for key in _NOT_INHERITED:
        inherited.pop(key, None)
    return _merge(inherited, own)


def _tuples(value: Any) -> Any:
    """YAML has lists where the frozen config has tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def load_experiment(name: str) -> Experiment:
    """The experiment in `experiments/<name>.yaml`.

    Raises ConfigError, with file, key and reason, when the file is missing or anything in it is not as declared.
    """
    path = experiment_path(name)
    return experiment_of(read_content(path), path)


def _given(value: object) -> str:
    """What stands in the file, in brief; of a section, which would be pages, nothing."""
    return "" if isinstance(value, Mapping) else f" (given: {_brief.repr(value)})"


def experiment_of(content: Mapping[str, Any], path: Path, said_in: str = "") -> Experiment:
    """The experiment that `content` makes as the file at `path`, which need not be there; errors name `said_in`.

    Raises ConfigError as `load_experiment` does.
    """
    where, whole = said_in or str(path), _extended(content, path)
    if "name" in whole:
        raise ConfigError(f"{where}: name: the file's name is the experiment's name; remove the key")
    try:
        return Experiment.model_validate(_tuples({**whole, "name": path.stem}))
    except ValidationError as error:
        problems = "\n".join(
            f"{where}: {'.'.join(map(str, e['loc'])) or 'experiment'}: {e['msg']}{_given(e['input'])}"
            for e in error.errors()
        )
        raise ConfigError(problems) from error
