"""Large files over HTTP: a cut costs only what had not arrived, and nothing of another file gets in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.inference.model_host import ModelHost, model_host
from worker.inference import downloads
from worker.inference.types import ModelError

DATA = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSE", 0.0)


@pytest.fixture
def host() -> Iterator[ModelHost]:
    with model_host() as one:
        one.files["a.onnx"] = DATA
        yield one


def fetch(host: ModelHost, part: Path, *paths: str) -> str:
    return downloads.fetch([f"{host.url}/{path}" for path in paths or ("a.onnx",)], part, print)


def test_a_whole_file_arrives_and_is_not_asked_for_again(host, tmp_path):
    part = tmp_path / "part"
    fetch(host, part)
    assert part.read_bytes() == DATA
    fetch(host, part)
    assert host.asked == [("/a.onnx", "")]


def test_a_cut_goes_on_where_it_was(host, tmp_path):
    host.cut_after = [300_000, 200_000]
    fetch(host, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA
    assert host.asked == [("/a.onnx", ""), ("/a.onnx", "bytes=300000-"), ("/a.onnx", "bytes=500000-")]


def test_what_arrived_before_a_failure_is_kept_for_the_next_call(host, tmp_path):
    host.cut_after = [300_000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(ModelError) as refused:
        fetch(host, tmp_path / "part")
    assert refused.value.code == "source_unavailable"
    assert (tmp_path / "part").stat().st_size == 300_000
    host.cut_after = []
    host.asked.clear()
    fetch(host, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA
    assert host.asked == [("/a.onnx", "bytes=300000-")]


def test_another_file_under_the_same_name_begins_anew(host, tmp_path):
    host.cut_after = [300_000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(ModelError):
        fetch(host, tmp_path / "part")
    host.cut_after = []
    host.files["a.onnx"] = DATA[::-1]
    fetch(host, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA[::-1]


@pytest.mark.parametrize("lacks", ["ranges", "validators"])
def test_a_host_that_cannot_resume_sends_all_again(host, tmp_path, lacks):
    setattr(host, lacks, False)
    host.cut_after = [300_000]
    fetch(host, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA


def test_a_longer_part_than_the_file_is_thrown_away(host, tmp_path):
    host.cut_after = [300_000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(ModelError):
        fetch(host, tmp_path / "part")
    host.cut_after = []
    with (tmp_path / "part").open("ab") as file:
        file.write(DATA)
    fetch(host, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == DATA


def test_the_next_address_is_asked_where_one_has_nothing(host, tmp_path):
    assert fetch(host, tmp_path / "part", "gone/b.onnx", "a.onnx") == f"{host.url}/a.onnx"
    assert [path for path, _ in host.asked] == ["/gone/b.onnx", "/a.onnx"]


def test_no_address_answers_and_all_are_named(host, tmp_path):
    with pytest.raises(ModelError, match=r"404.*127.0.0.1:9/") as refused:
        downloads.fetch([f"{host.url}/b.onnx", "http://127.0.0.1:9/b.onnx"], tmp_path / "part", print)
    assert refused.value.code == "source_unavailable"
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/a.onnx"])
def test_only_http_is_followed(host, tmp_path, target):
    host.redirect_to = target
    with pytest.raises(ModelError) as refused:
        fetch(host, tmp_path / "part")
    assert refused.value.code == "source_unavailable"
    with pytest.raises(ModelError):
        downloads.fetch([target], tmp_path / "part", print)
    assert not (tmp_path / "part").exists()


def test_a_file_beyond_all_bounds_is_refused(host, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MOST", 1000)
    for lengths in (True, False):
        host.lengths = lengths
        with pytest.raises(ModelError, match="too large"):
            fetch(host, tmp_path / f"part-{lengths}")


def test_a_folder_that_cannot_be_written_says_so(host, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError) as refused:
        fetch(host, tmp_path / "file" / "part")
    assert refused.value.code == "write_failed"
