"""`manage.py mark`: the mark by hand."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

pytestmark = pytest.mark.django_db


def run(*arguments):
    out = io.StringIO()
    call_command("mark", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_an_embedded_id_is_read_back(samples, tmp_path):
    marked = tmp_path / "marked.png"
    assert run("embed", samples / "astronaut.jpg", marked, "--id", "0011223344556677").strip() == "0011223344556677"
    answer = run("read", marked)
    assert "0011223344556677" in answer
    assert "whole picture" in answer


def test_a_plain_picture_reads_as_nothing(samples):
    with pytest.raises(CommandError, match="No mark") as caught:
        run("read", samples / "grace_hopper.jpg", "--effort", "fast")
    assert caught.value.returncode == 3


def test_an_existing_file_is_not_overwritten(samples, tmp_path):
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    with pytest.raises(CommandError, match="exists already"):
        run("embed", samples / "astronaut.jpg", taken)
    assert taken.read_bytes() == b"mine"


@pytest.mark.parametrize("bad", ["xyz", "0011"])
def test_a_bad_id_is_refused_and_nothing_is_written(samples, tmp_path, bad):
    with pytest.raises(CommandError):
        run("embed", samples / "astronaut.jpg", tmp_path / "out.png", "--id", bad)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    text = tmp_path / "note.jpg"
    text.write_text("not a picture")
    with pytest.raises(CommandError, match="could not be opened"):
        run("read", text)


def test_the_picture_is_decoded_in_a_child_and_never_where_the_keys_are(samples, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("Pillow opened a stranger's file in the process that holds the keys")

    monkeypatch.setattr("PIL.Image.open", forbidden)
    with pytest.raises(CommandError, match="No mark"):
        run("read", samples / "grace_hopper.jpg", "--effort", "fast")
