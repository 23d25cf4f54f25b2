"""Erased is gone: after a real job, no raw byte of the house, and nothing its keys still open, shows the person."""

from __future__ import annotations

import base64
import json
import os
import quopri
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import test_postgres

databases = test_postgres.databases  # a fixture

NAME = "Zéphyrine Quillfeather"
SIGNS = "Zéphyrine Amaranth Quillfeather-Oyelaran"
CONTACT = "zephyrine.quillfeather@markers.example"
NOTE = "Do you remember the lighthouse at Skerryvore, marker 7719?"
FILE = "zephyrine-quillfeather-portrait.jpg"
REMARK = "Looked at it: this is Quillfeather from the second floor, marker 5521."
COMMENT = b"planted in the photo's bytes: marker 90210 of a lighthouse"
BEN = "Ben Okri-Marker"


def _photo(samples: Path, folder: Path) -> Path:
    """The portrait with a comment segment of its own, under a name that tells who it is."""
    jpeg = (samples / "astronaut.jpg").read_bytes()
    path = folder / FILE
    path.write_bytes(jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(COMMENT) + 2) + COMMENT + jpeg[2:])
    return path


def _slices(data: bytes, count: int = 12, size: int = 32) -> Iterator[bytes]:
    """Pieces of a picture's compressed bytes; not of the file's head, where tables and the signed manifest stand."""
    head = len(data) // 2
    for number in range(count):
        start = head + (len(data) - head - size) * number // count
        yield data[start : start + size]


def _forms(text: str) -> Iterator[bytes]:
    """Every way in which a text may lie in a file: encodings, JSON and mail escapes, and those forms' own forms."""
    yield from (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"), text.encode("latin-1"))
    yield json.dumps(text)[1:-1].encode()
    yield quopri.encodestring(text.encode()).strip()
    yield text.lower().encode()


def _coded(plain: bytes) -> Iterator[bytes]:
    """As it is, in hexadecimal, and in base64 at each of the three places it may begin at."""
    yield plain
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    for shift in range(3):
        code = base64.b64encode(b"\0" * shift + plain)
        inner = code[4 if shift else 0 : -4]  # the ends depend on the neighbours
        if len(inner) >= 12:
            yield inner
            yield inner.replace(b"+", b"-").replace(b"/", b"_")


def _needles(texts: dict[str, str], raw: dict[str, list[bytes]]) -> dict[str, set[bytes]]:
    """What to look for, by what it shows."""
    needles = {what: {code for form in _forms(text) for code in _coded(form)} for what, text in texts.items()}
    return needles | {what: {code for each in pieces for code in _coded(each)} for what, pieces in raw.items()}


def _found(needles: dict[str, set[bytes]], *places: Path) -> set[str]:
    """Which of the markers lie somewhere in these files and folders."""
    seen = set()
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if not path.is_file():
                continue
            content = path.read_bytes() + b"\n" + str(path.name).encode()
            seen |= {what for what, forms in needles.items() if any(form in content for form in forms)}
    return seen


def _float_bytes(values: list[float]) -> list[bytes]:
    """A descriptor as arrays hold it, and as JSON writes it."""
    return [
        struct.pack("<16f", *values[:16]),
        struct.pack(">16f", *values[:16]),
        struct.pack("<16d", *values[:16]),
        json.dumps(values[:6])[1:-1].encode(),
        json.dumps(values[:6], separators=(",", ":"))[1:-1].encode(),
    ]


def _dumps(house: Any, folder: Path) -> list[Path]:
    """What a thief of the databases' contents gets: the whole of a PostgreSQL, or SQLite's files in the house."""
    folder.mkdir()
    made = []
    for name in ("DATABASE_URL", "KEYS_URL"):
        if url := house.environment.get(name):
            made.append(folder / name)
            with made[-1].open("wb") as out:
                subprocess.run(["pg_dump", "--inserts", url], stdout=out, check=True, timeout=60)
    return made


def _prove_forgotten(house: Any, samples: Path, tmp_path: Path) -> None:
    worker = house.start_worker("ctl,cpu.media,interactive,offline", beat=True)
    photo = _photo(samples, tmp_path)
    source = house.do("upload", path=str(photo), role="source")
    target = house.upload_ready(samples / "grace_hopper.jpg", "target")
    house.wait(lambda: house.do("asset", asset_id=source)["state"] == "ready")
    ada = house.do(
        "ask_person", role="face_donor", asset_id=source, person=NAME, contact=CONTACT, note=NOTE, signs=SIGNS
    )
    ben = house.do(
        "ask_person", role="target_person", asset_id=target, person=BEN, contact="ben@other.example", note="", signs=BEN
    )
    job_id = house.do("submit", source=source, target=target, donor=ada["consent"], person=ben["consent"])
    assert house.wait_job(job_id, "succeeded")["outputs"] == 1
    house.wait(lambda: any((house.home / "mail").glob("*")))
    house.do("remark", job_id=job_id, text=REMARK)

    outside = tmp_path / "outside"
    outside.mkdir()
    house.do("output", job_id=job_id, dest=str(outside / "out.jpg"))
    house.do("preview", asset_id=source, face=0, dest=str(outside / "preview.jpg"))
    descriptors = house.do("descriptors", asset_id=source, dest=str(outside / "analysis"))
    assert descriptors
    needles = _needles(
        {"name": NAME, "signature": SIGNS, "contact": CONTACT, "note": NOTE, "file name": FILE, "remark": REMARK},
        {
            "photo": [COMMENT, *_slices(photo.read_bytes())],
            "result": list(_slices((outside / "out.jpg").read_bytes())),
            "preview": list(_slices((outside / "preview.jpg").read_bytes())),
            "descriptor": [form for each in descriptors for form in _float_bytes(each)],
        },
    )

    # Before: letters, the file's name and the remark lie there in plain; everything else opens with the house's keys.
    before = house.do("read_all", dest=str(outside / "before"))
    everything = set(needles)
    plain = _found(needles, house.home, *_dumps(house, tmp_path / "dump-before"))
    assert {"contact", "name", "file name", "remark"} <= plain
    assert not {"photo", "result", "preview", "descriptor", "signature"} & plain, "these are sealed from the first day"
    assert _found(needles, outside / "before") >= {"name", "signature", "contact", "note", "photo", "result", "preview"}
    assert _found(needles, outside / "before") | plain >= everything

    # The one who erases dies between the two databases; a worker's start goes on with it.
    house.kill(worker)
    assert house.do("erase", subject=ada["subject"], die_after="_destroy_keys") == {"died": 9}
    assert house.do("erasure_state", subject=ada["subject"]) == "erasing"
    house.start_worker("ctl,cpu.media,interactive,offline", beat=True)
    house.wait(lambda: house.do("erasure_state", subject=ada["subject"]) == "erased")
    report = house.do("erase", subject=ada["subject"])
    assert report["finished"]
    destroyed = {line["what"]: line["count"] for line in report["destroyed"]}
    assert destroyed["results"] == 1
    assert destroyed["uploads with their previews and analyses"] == 1
    assert destroyed["letters in files"] >= 1
    assert report["kept"]
    assert all(line["why"] for line in report["kept"])

    # After: nowhere, in no form; and nothing that the house's keys still open shows her.
    after = house.do("read_all", dest=str(outside / "after"))
    assert 0 < after < before
    assert _found(needles, house.home, *_dumps(house, tmp_path / "dump-after")) == set()
    assert _found(needles, outside / "after") == set()
    assert _found(needles, *(path for path in house.home.glob("*.log"))) == set()

    traces = house.do("traces", subject=ada["subject"])
    assert (traces["contact"], traces["columns"], traces["states"]) == (False, [], ["withdrawn"])
    gone = {f"subject:{ada['subject']}", f"asset:{source}", f"output:{job_id}"}
    assert not gone & set(traces["living_keys"])
    assert {f"subject:{ben['subject']}", f"asset:{target}"} <= set(traces["living_keys"])

    # Only Ben's objects are left, and his output is gone with her face in it.
    assert [house.do("objects", prefix=kind) for kind in ("asset", "analysis", "preview", "output")] == [1, 1, 1, 0]

    # Ben is as he was, and the log is whole.
    his = {"Ben": {BEN.encode()}, "his mail": {b"ben@other.example"}}
    assert _found(his, outside / "after") == {"Ben", "his mail"}
    log = house.do("ledger_holds")
    assert log["wrong"] == []
    assert log["size"] >= 6
    assert house.do("output_refused", job_id=job_id) in {"output_withdrawn", "output_erased"}


def test_after_an_erasure_no_byte_of_the_house_shows_the_person(
    open_house: Callable[..., Any], samples: Path, tmp_path: Path
) -> None:
    _prove_forgotten(open_house(DJANGO_SETTINGS_MODULE="webapp.settings"), samples, tmp_path)


@pytest.mark.soak  # the same proof on SQLite is in every run; this one takes minutes on a slow machine
@pytest.mark.postgres
def test_nor_does_a_dump_of_postgresql(
    databases: tuple[str, str], open_house: Callable[..., Any], samples: Path, tmp_path: Path
) -> None:
    if not any((Path(folder) / "pg_dump").is_file() for folder in os.environ["PATH"].split(":")):
        pytest.skip("pg_dump is not installed")
    house = open_house(DJANGO_SETTINGS_MODULE="webapp.settings", DATABASE_URL=databases[0], KEYS_URL=databases[1])
    try:
        _prove_forgotten(house, samples, tmp_path)
    finally:
        house.close()
