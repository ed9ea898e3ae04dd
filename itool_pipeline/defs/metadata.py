"""A step's metadata as the UI shows it."""

from __future__ import annotations

import base64
from typing import Any

import dagster as dg

from itool_pipeline.steps.asset_tables import row_counts
from itool_pipeline.steps.display import IMAGE, MARKDOWN
from itool_pipeline.steps.workspace import Produced
from itool_pipeline.store.manifest import Artifact

FINGERPRINT, REUSED = "fingerprint", "reused"
"""Metadata that tells whoever hears of an asset which artifact it is, and whether it was there already."""


def shown(produced: Produced) -> dict[str, Any]:
    """The manifest's metadata with tables and pictures drawn, and where the artifact is from."""
    artifact = produced.artifact
    own = {key: shown_value(value, artifact) for key, value in artifact.manifest.metadata.items() if value is not None}
    return {
        **own,
        **_counted(row_counts(artifact)),
        FINGERPRINT: artifact.fingerprint,
        REUSED: produced.reused,
        "seconds": artifact.manifest.seconds,
        "artifact": dg.MetadataValue.path(str(artifact.path)),
    }


def _counted(counts: dict[str, int]) -> dict[str, int]:
    """Rows of the asset's first table where Dagster looks for them, and of further ones under their names."""
    names = list(counts)
    of_first = dict.fromkeys(("dagster/row_count", "dagster/partition_row_count"), counts[names[0]]) if names else {}
    return of_first | {f"rows_of_{name}": counts[name] for name in names[1:]}


def data_version(produced: Produced) -> dg.DataVersion:
    """The fingerprint: by it Dagster knows what was made anew, and what downstream of it is out of date."""
    return dg.DataVersion(produced.artifact.fingerprint)


def shown_value(value: Any, artifact: Artifact | None = None) -> Any:
    """One value of a step's metadata. A picture is a file of `artifact`."""
    if isinstance(value, dict) and set(value) == {MARKDOWN}:
        return dg.MetadataValue.md(value[MARKDOWN])
    if artifact is not None and isinstance(value, dict) and set(value) == {IMAGE}:
        picture = base64.b64encode(artifact.file(value[IMAGE]).read_bytes()).decode()
        return dg.MetadataValue.md(f"![{value[IMAGE]}](data:image/png;base64,{picture})")
    return dg.MetadataValue.json(value) if isinstance(value, dict | list) else value
