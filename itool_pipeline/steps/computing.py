"""In which dtype and on what an artifact is computed: settled for it as a whole, and told in its metadata."""

from __future__ import annotations

from dataclasses import replace

from itool_pipeline.engines.settled_compute import compute_note, settled_compute
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.models import base_dir
from itool_pipeline.steps.workspace import Workspace


def settled(ws: Workspace, parts: Parts, *, elsewhere: bool = False) -> Workspace:
    """The workspace for making the artifact of these parts, with `compute.dtype` by name (see `settled_compute`).

    Called before the first part is read or written. The plan stays as it is: fingerprints know `auto` as a word.
    `elsewhere`: other processes make the parts, and note themselves on what.
    """
    e, processes = ws.experiment, 0 if elsewhere else 1
    findings = ws.paths.machines
    compute = settled_compute(e.compute, base_dir(ws), parts, findings=findings, say=ws.say, processes=processes)
    return replace(ws, experiment=e.model_copy(update={"compute": compute}))


def computed_in(parts: Parts) -> dict[str, str]:
    """For an artifact's metadata: the dtype and the devices that were settled for its parts."""
    note = compute_note(parts)
    return {"dtype": note.dtype, "device": " and ".join(note.devices)} if note else {}
