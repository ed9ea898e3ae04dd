"""A first experiment on a file of one's own: what it holds, in words, and a valid experiment that trains on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.config import Experiment
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.data.containers import missing_file
from itool_pipeline.data.first_look import FirstLook, look_at
from itool_pipeline.data.layouts import CHAT
from itool_pipeline.data.streams import UnreadableFile
from itool_pipeline.experiment_files import (
    ConfigError,
    experiment_names,
    experiment_of,
    experiment_path,
    require_new_name,
    write_experiment_file,
)
from itool_pipeline.files.config_yaml import write_yaml

BASE = "bfcl_half"
"""What the new experiment extends: the settings for the embedded model."""
_SHOWN_KINDS = 20
_NEXT = """
# Another model: model: {type: hub, name: Qwen/Qwen2.5-0.5B-Instruct}
# Your own held-out conversations: evaluation: {calls: {path: held_out.jsonl}}
"""


@dataclass(frozen=True, slots=True)
class NewExperiment:
    """A valid experiment that is not written yet.

    text  of its file
    """

    experiment: Experiment
    path: Path
    text: str
    look: FirstLook


def new_experiment(file: Path, name: str | None = None, progress: Progress = no_progress) -> NewExperiment:
    """Look at the file, and make the experiment `name`, by default the file's own name, that trains on it.

    Raises UnreadableFile for a file that is missing or cannot be read, ConfigError for a name that cannot be one or is
    taken, and StorageError.
    """
    file = file.expanduser().absolute()
    _require_text(file)
    name = name or _name_of(file)
    path = _free_path(name)
    if not file.is_file():
        raise UnreadableFile(missing_file(file))
    look = look_at(file, progress)
    if not look.examples:
        raise UnreadableFile(f"{file}: no row gives an example to train on, so no experiment is written.\n{told(look)}")
    content = _content(file, look)
    text = write_yaml(content) + _NEXT
    return NewExperiment(experiment_of(content, path), path, text, look)


def _require_text(file: Path) -> None:
    """Raises UnreadableFile for a path of bytes that are no UTF-8, which no experiment can name."""
    try:
        str(file).encode()
    except UnicodeEncodeError as error:
        told = f"{str(file)!r}: the path is no text in UTF-8, so no experiment can name it; rename it."
        raise UnreadableFile(told) from error


def write_experiment(new: NewExperiment) -> None:
    """Writes the file. Raises ConfigError when one is there by now, and StorageError when it cannot be written."""
    _free_path(new.path.stem)
    write_experiment_file(new.path, new.text)


def told(look: FirstLook) -> str:
    """What the file holds, in a few lines."""
    lines = [f"layout: {look.layout}{_listed(look.spellings) if look.layout == CHAT else ''}"]
    named = look.columns.model_dump(exclude_none=True)
    lines += [f"  {what} are taken from the column `{name}`: a guess" for what, name in named.items()]
    others = {name or "none that is known": n for name, n in look.layouts.items() if name != look.layout}
    lines += [f"  {count:,} rows in another layout: {name}" for name, count in others.items()]
    by_category = ", ".join(f"{count:,} {name}" for name, count in sorted(look.examples.items()))
    examples = f"{look.examples.total():,} examples ({by_category})" if by_category else "an example"
    lines.append(f"rows: {look.rows:,}, of which {look.read:,} give {examples}")
    lines += [f"  not to be learnt: {count:,} × {reason}" for reason, count in look.passed.most_common()]
    lines.append(f"not read: {look.quarantined:,} rows or turns")
    kinds = sorted(look.refused.values(), key=lambda refused: -refused.count)
    lines += [f"  {one.count:,} × {one.reason} (first: {one.position})" for one in kinds[:_SHOWN_KINDS]]
    left = kinds[_SHOWN_KINDS:]
    lines += [f"  {sum(one.count for one in left):,} more of {len(left)} other kinds"] if left else []
    lines += [f"changed: {times:,} × {what}" for what, times in look.changed.most_common()]
    return "\n".join(lines)


def _listed(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    return "".join(f"\n  {count:,} × {name}" for name, count in ordered)


def warning(new: NewExperiment) -> str:
    """What would stop the run that the file itself is to blame for; empty when nothing would."""
    bound, look = new.experiment.data.max_quarantined, new.look
    share = look.quarantined / (look.quarantined + look.examples.total() + look.passed.total())
    if share <= bound:
        return ""
    return (
        f"{share:.0%} cannot be read, and data.max_quarantined is {bound:.0%}: the run would stop after `examples`. "
        "Mend the rows, or raise the bound."
    )


def _content(file: Path, look: FirstLook) -> dict[str, Any]:
    if look.layout in ("toolace", "xlam"):
        data: dict[str, Any] = {"type": look.layout, "path": str(file)}
    else:
        data = {"type": "jsonl", "path": str(file), "layout": look.layout}
        if named := look.columns.model_dump(exclude_none=True):
            data["columns"] = named
    words = f"{look.examples.total():,} examples of {file.name}"
    return {
        "description": f"Our own data - {words}.",
        "extends": BASE,
        "model": {"type": "smollm2_wheel"},
        "data": data,
    }


def _name_of(file: Path) -> str:
    stem = re.sub(r"(?:\.(?:jsonl?|ndjson|parquet|gz))+$", "", file.name, flags=re.I)
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", stem).strip("._-+")


def _free_path(name: str) -> Path:
    """Where the experiment of that name would be written."""
    require_new_name(name, "--name")
    path = experiment_path(name)
    if path.exists() or name in experiment_names():
        raise ConfigError(f"{path}: there is an experiment {name} already; give this one another name with --name")
    return path
