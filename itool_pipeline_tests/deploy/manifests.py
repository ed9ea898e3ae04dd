"""The manifests in `deploy/k8s`, read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "k8s"
SECRET = {"DAGSTER_PG_PASSWORD": "not in the manifests"}
"""What a person puts into the secret `itool-secrets`."""

Document = dict[str, Any]


def texts() -> dict[str, str]:
    """File name → its text."""
    return {path.name: path.read_text() for path in sorted(FOLDER.glob("*.yaml"))}


class Manifests:
    """Documents by kind and name; of texts in which some words are replaced, for a cluster that is none."""

    def __init__(self, replaced: Mapping[str, str] | None = None) -> None:
        self.documents: list[Document] = []
        for text in texts().values():
            for old, new in (replaced or {}).items():
                text = text.replace(old, new)
            self.documents.extend(yaml.safe_load_all(text))

    def of_kind(self, kind: str) -> dict[str, Document]:
        return {document["metadata"]["name"]: document for document in self.documents if document["kind"] == kind}

    def data(self, config_map: str) -> dict[str, str]:
        data: dict[str, str] = self.of_kind("ConfigMap")[config_map]["data"]
        return data

    def settings(self) -> Document:
        """The instance's `dagster.yaml`."""
        settings: Document = yaml.safe_load(self.data("itool-dagster")["dagster.yaml"])
        return settings

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """A container's variables; `env` wins over `envFrom`. Raises KeyError for what is not there."""
        found: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            found |= self.data(source["configMapRef"]["name"]) if "configMapRef" in source else SECRET
        for one in container.get("env") or []:
            found[one["name"]] = one["value"] if "value" in one else SECRET[one["valueFrom"]["secretKeyRef"]["key"]]
        return found
