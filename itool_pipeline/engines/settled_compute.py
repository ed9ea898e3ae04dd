"""In which dtype work that is kept in parts is computed: settled once, noted with the parts, the same to the end.

Torch is imported where it is used, so that whoever reads a note needs none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from itool_pipeline.config import ComputeConfig
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.files.locks import Say
from itool_pipeline.files.parts import Parts
from itool_pipeline.files.seals import is_sound
from itool_pipeline.files.ticket_lock import ticket_lock

NOTE = "compute.json"
"""Beside the parts: the ComputeNote of all that is in them."""
_LOCK = ".compute.tickets"


class ComputeNote(BaseModel):
    """The one dtype of the parts, and every device that worked on them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dtype: Literal["bfloat16", "float32"]
    devices: list[str]


def compute_note(parts: Parts) -> ComputeNote | None:
    """What the parts say of themselves; None when nothing was settled for them.

    Raises ModelError when the note is damaged.
    """
    path = parts.path(NOTE)
    damaged = f"{path} is damaged: remove the folder that it is in to begin again"
    if not is_sound(path):
        raise ModelError(damaged)
    try:
        return ComputeNote.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ModelError(damaged) from error


def settled_compute(
    compute: ComputeConfig,
    base: Path,
    parts: Parts,
    *,
    made: str = "*",
    findings: Path | None,
    say: Say,
    processes: int = 1,
) -> ComputeConfig:
    """`compute` with its dtype by name: that of the parts, or where there are none yet, see `resolve_dtype`.

    base       folder of the model
    made       pattern of the parts' names
    findings   where what was measured of the machine is kept
    say        hears of a measurement, and of parts that go on on another device than they were begun on
    processes  so many compute each part together; 0: others will compute, and note their devices themselves

    Several processes, on several machines, may work on the same parts: the first of them settles. Raises ModelError
    when the parts are of another dtype than the one that `compute` names, and when `auto` meets parts that do not say
    of which they are.
    """
    from itool_pipeline.engines.dtype_finding import device_text, resolve_dtype
    from itool_pipeline.engines.model import resolve_device

    device = resolve_device(compute)
    here, place = device_text(device) if processes == 1 else f"{processes} x {device_text(device)}", parts.directory
    with ticket_lock(place / _LOCK, "the settling of the dtype", say):
        found = note = compute_note(parts)
        if note is None:
            if compute.dtype == "auto" and not all(part.name.startswith(".") for part in place.glob(made)):
                raise ModelError(
                    f"{place} holds parts that do not say in which dtype they were made, and compute.dtype is auto: "
                    "remove that folder to begin again, or name the dtype"
                )
            dtype = resolve_dtype(compute, device, base, findings=findings, say=say)
            note = ComputeNote(dtype=dtype, devices=[])
        if compute.dtype not in ("auto", note.dtype):
            raise ModelError(
                f"{place} holds parts that were made in {note.dtype}, and compute.dtype is {compute.dtype}: "
                f"say {note.dtype} to go on with them, or remove that folder to begin again"
            )
        if processes and here not in note.devices:
            if note.devices:
                say(f"begun in {note.dtype} on {' and '.join(note.devices)}: going on in {note.dtype} on {here}")
            note = note.model_copy(update={"devices": [*note.devices, here]})
        if note != found:
            parts.write_json(NOTE, note)
    return compute.model_copy(update={"dtype": note.dtype})
