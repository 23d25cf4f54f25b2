"""`manage.py verify`: exit statuses, folders, addresses, and what a terminal is shown."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import cv2
import pytest
from django.core.management import call_command

from tests.webapp.verify.conftest import Published, save
from webapp.commands.management.commands.verify import EXIT_CODES, WORSE
from webapp.jobs.models import Output

pytestmark = pytest.mark.django_db


def status(*arguments: str | Path) -> int:
    try:
        call_command("verify", *map(str, arguments))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_each_verdict_has_its_exit_status(grace_published: Published, samples: Path, tmp_path: Path) -> None:
    assert status(grace_published.path) == 0
    assert status(save(tmp_path / "copy.jpg", grace_published.rgb, cv2.IMWRITE_JPEG_QUALITY, 80)) == 0
    assert status(samples / "astronaut.jpg") == 12
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no")
    assert status(broken) == 14
    changed = tmp_path / "changed.png"
    data = grace_published.path.read_bytes()
    comment = b"tEXtComment\0added later"
    chunk = (len(comment) - 4).to_bytes(4, "big") + comment + zlib.crc32(comment).to_bytes(4, "big")
    changed.write_bytes(data[:-12] + chunk + data[-12:])  # before the last chunk, IEND
    assert status(changed) == 11
    Output.objects.filter(pk=grace_published.output.pk).update(permission="taken_down")
    assert status(grace_published.path) == 10
    assert set(EXIT_CODES.values()) == set(WORSE)


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(tmp_path / "nothing.jpg") == 14
    assert "cannot be opened" in capsys.readouterr().out


def test_a_folder_gives_a_line_per_file_and_the_worst_status(
    grace_published: Published, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "ours.png").write_bytes(grace_published.path.read_bytes())
    (folder / "notes.txt").write_text("not media", encoding="utf-8")
    (folder / ".hidden" / "a.jpg").write_bytes(b"no")
    (folder / "below" / "found.jpg").write_bytes((samples / "astronaut.jpg").read_bytes())
    (folder / "link.jpg").symlink_to(samples / "astronaut.jpg")
    assert status(folder) == 12
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == [f"{folder}/ours.png", f"{folder}/below/found.jpg"]
    assert lines[-1] == "2 files: 1 ours, 1 nothing found."
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    assert status(folder) == 14
    capsys.readouterr()
    Output.objects.filter(pk=grace_published.output.pk).update(permission="withdrawn")
    assert status(folder, "--json") == 10
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["code"] for row in rows} == {"ours_withdrawn", "nothing_found", "unreadable"}


def test_a_folder_without_media_is_said_to_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(tmp_path) == 14
    assert "no photo or video" in capsys.readouterr().err


def test_an_address_goes_through_the_safe_client(capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("https://127.0.0.1/a.jpg", "http://example.org/a.jpg"):
        assert status(address, "--json") == 14
        row = json.loads(capsys.readouterr().out)
        assert (row["file"], row["code"]) == (address, "unreadable")


def test_a_file_name_cannot_speak_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = tmp_path / "a\x1b[2J\u202egpj.jpg"
    nasty.write_bytes(b"no")
    status(nasty)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
