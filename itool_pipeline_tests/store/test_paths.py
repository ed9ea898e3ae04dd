"""Where the storage is."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store import paths
from itool_pipeline.store.paths import VARIABLE, storage_paths


def test_the_variable_names_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "~/ours")
    assert storage_paths().database == tmp_path / "ours" / "itool.duckdb"


def test_a_root_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests and database hold texts."""
    monkeypatch.setenv(VARIABLE, "/tmp/a\udcff")
    with pytest.raises(StorageError, match=r"'/tmp/a\\udcff', which is no text in UTF-8"):
        storage_paths()


def test_a_package_without_its_repository_asks_for_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "itool_pipeline" / "store" / "paths.py"))
    with pytest.raises(StorageError, match=f"outside its repository: set {VARIABLE}"):
        storage_paths()
