"""Fetching from a local server: checked, kept once, never half."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rnatracker.data.download import DATA_SETS, DataSet, blob_id, cache_folder, fetch
from rnatracker.errors import DataError

CONTENT = b">a gene_biotype:protein_coding transcript_biotype:x dist:1_1_1_1\nACGT\n" * 5000


class Handler(BaseHTTPRequestHandler):
    """Serves `/good/...` whole, `/cut/...` by half; counts what it was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        if self.path.startswith("/none"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path.startswith("/cut") else CONTENT)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def data_set() -> DataSet:
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT, usedforsecurity=False).hexdigest()
    return DataSet("Data/some/file.fa", blob, ("a", "b", "c", "d"))


def test_blob_id_is_gits_when_the_answer_is_known(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello\n")
    assert blob_id(tmp_path / "x") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_data_sets_are_those_of_the_original() -> None:
    assert {name: data_set.blob for name, data_set in DATA_SETS.items()} == {
        "cefra-seq": "eb0a3e62f27491d5876e9e085984d51a60baf750",
        "apex-rip": "c51397ca5e71ade2035349bec8bb39ebf49b7a84",
    }


def test_fetch_keeps_a_checked_file_and_asks_once(server: str, data_set: DataSet, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    folder = tmp_path / "new" / "folder"
    path, fetched = fetch(
        data_set, folder, base_url=f"{server}/good/", progress=lambda done, total: seen.append((done, total))
    )
    assert fetched
    assert path == folder / "file.fa"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(data_set, folder, base_url=f"{server}/good") == (path, False)
    assert Handler.asked == ["/good/Data/some/file.fa"]


def test_fetch_replaces_a_file_when_its_content_is_another(server: str, data_set: DataSet, tmp_path: Path) -> None:
    (tmp_path / "file.fa").write_bytes(CONTENT[:-1])
    assert fetch(data_set, tmp_path, base_url=f"{server}/good")[1]
    assert (tmp_path / "file.fa").read_bytes() == CONTENT


def test_fetch_keeps_nothing_when_the_content_is_wrong(server: str, data_set: DataSet, tmp_path: Path) -> None:
    wrong = DataSet(data_set.path, "0" * 40, data_set.sites)
    with pytest.raises(DataError) as caught:
        fetch(wrong, tmp_path, base_url=f"{server}/good")
    assert caught.value.problem.startswith(f"{server}/good/{data_set.path}: ")
    assert all(f"{name} {blob}" in caught.value.problem for name, blob in (("id", wrong.blob), ("got", data_set.blob)))
    assert "nothing was kept" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_fetch_keeps_nothing_when_the_transfer_breaks_off(server: str, data_set: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(data_set, tmp_path, base_url=f"{server}/cut")
    place, _, rule = caught.value.problem.partition("file.fa: ")
    assert place == f"{server}/cut/Data/some/"
    assert rule.startswith(("can't be fetched", "expected git blob id"))
    assert list(tmp_path.iterdir()) == []


def test_fetch_says_what_to_do_when_there_is_no_network(data_set: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(data_set, tmp_path, base_url="http://127.0.0.1:9")
    said = str(caught.value)
    assert said.startswith("http://127.0.0.1:9/Data/some/file.fa: can't be fetched (no connection)")
    assert f"put the file at {tmp_path / 'file.fa'} and give the same command again" in said


def test_fetch_says_what_the_server_answered_when_it_refuses(server: str, data_set: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(data_set, tmp_path, base_url=f"{server}/none")
    assert all(part in caught.value.problem for part in (f"{server}/none/", "can't be fetched", "404 Not Found"))


def test_cache_folder_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "rnatracker"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "rnatracker"
