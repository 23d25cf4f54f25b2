"""What people should not send: the same stable code at the API, in the page's words and on the command line.

One house with one worker for all cases: it has to go on after each of them, and nothing half-written may stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import bad_media as bad
from tests.chaos.conftest import House

Make = Callable[[Path, Path, Path], None]  # (file to make, folder of the portraits, a sound clip)


def _half(path: Path, sound: Path, part: float = 0.5) -> None:
    data = sound.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


# (name of the file, role, code, words a person reads, maker)
CASES: list[tuple[str, str, str, str, Make]] = [
    ("wall.png", "target", "no_face", "No face was found", lambda at, _s, _c: bad.wall(at)),
    ("wall-source.png", "source", "no_face", "No face was found", lambda at, _s, _c: bad.wall(at)),
    ("far.jpg", "target", "face_too_small", "64 pixels", lambda at, s, _c: bad.far_away(s / "grace_hopper.jpg", at)),
    ("half.jpg", "source", "truncated", "damaged or incomplete", lambda at, s, _c: _half(at, s / "astronaut.jpg")),
    ("half.mp4", "target", "truncated", "damaged or incomplete", lambda at, _s, c: _half(at, c)),
    ("head.mp4", "target", "truncated", "damaged or incomplete", lambda at, _s, c: _half(at, c, 0.01)),
    (
        "renamed.jpg",
        "target",
        "format_mismatch",
        "that is not what the file holds",
        lambda at, _s, _c: at.write_bytes(b"Some notes. " * 90),
    ),
    ("archive.png", "source", "format_mismatch", "promises", lambda at, _s, _c: at.write_bytes(b"PK\3\4" + bytes(900))),
    ("notes.txt", "target", "not_media", "not a photo or a video", lambda at, _s, _c: at.write_text("Notes. " * 90)),
    ("page.html", "source", "not_media", "not a photo", lambda at, _s, _c: at.write_text("<script>alert(1)</script>")),
    ("drawing.gif", "target", "format_unsupported", "not supported", lambda at, _s, _c: at.write_bytes(b"GIF89a" * 50)),
    ("bomb.png", "target", "too_many_pixels", "more pixels", lambda at, _s, _c: bad.bomb(at)),
    ("bomb-source.png", "source", "too_many_pixels", "more pixels", lambda at, _s, _c: bad.bomb(at)),
    ("none.mp4", "target", "no_frames", "no picture", lambda at, _s, _c: bad.no_pictures(at)),
    ("sound.mp4", "target", "no_video_stream", "no picture track", lambda at, _s, _c: bad.sound_only(at)),
    ("ten.mkv", "target", "too_many_streams", "more tracks", lambda at, _s, _c: bad.video(at, sounds=9)),
    ("two.mp4", "target", "too_many_streams", "more tracks", lambda at, _s, _c: bad.video(at, videos=2)),
    ("still.mp4", "target", "zero_length", "duration is empty", lambda at, _s, _c: bad.no_time(at)),
    ("fast.mp4", "target", "frame_rate_absurd", "frame rate", lambda at, _s, _c: bad.video(at, rate=1000, frames=50)),
    (
        "hours.mp4",
        "target",
        "too_long",
        "longer than allowed",
        lambda at, _s, _c: bad.video(at, times=[0, 1, 7000], rate=1),
    ),
    ("noise.mp4", "target", "audio_unreadable", "sound of the video", lambda at, _s, _c: bad.noisy_sound(at)),
    ("clip.mp4", "source", "source_not_photo", "this is a video", lambda at, _s, c: at.write_bytes(c.read_bytes())),
]
SEEN = {"no_face", "face_too_small", "source_not_photo", "audio_unreadable"}  # its pictures can be looked at
CODE = re.compile(r"\b[a-z]+_[a-z_]+\b")  # for programs, never in a person's words
GIBBERISH = re.compile(r"Traceback|[a-z]Error\b|Exception|0x[0-9a-f]{6}|/tmp|\bNone\b|[{}]")
ENOUGH = 1 << 23  # bytes a file may grow to while the disk is "full"; more than the databases need


def plain(words: str, *, name: str) -> bool:
    """Can a person read this?"""
    words = words.replace(name, "")
    return bool(words.strip()) and not GIBBERISH.search(words) and not CODE.search(words)


@dataclass
class Bad:
    """A house whose worker examined every bad file: sent to the API, to the page, and by the command."""

    house: Any
    worker: Any
    good: dict[str, str]
    folder: Path
    files: dict[str, Path]
    api: dict[str, dict[str, Any]]
    pages: dict[str, dict[str, Any]]
    said: dict[str, str]


@pytest.fixture(scope="module")
def bad_house(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, samples: Path) -> Iterator[Bad]:
    house = House(tmp_path_factory.mktemp("house"), models_dir)
    folder = tmp_path_factory.mktemp("bad")
    clip = folder / "sound-clip.mp4"
    bad.video(clip, frames=50)
    try:
        house.start_worker("ctl", beat=True)
        worker = house.start_worker()
        house.do("browser")
        good = {
            "source": house.upload_ready(samples / "astronaut.jpg", "source"),
            "target": house.upload_ready(samples / "grace_hopper.jpg", "target"),
        }
        files, api, pages, said = {}, {}, {}, {}
        for name, role, _, _, make in CASES:
            files[name] = folder / name
            make(files[name], samples, clip)
            api[name] = house.do("api_upload", path=str(files[name]), role=role)
            other = good["target" if role == "source" else "source"]
            pages[name] = house.do("page_upload", path=str(files[name]), role=role, keep=other)
        for name, path in files.items():
            said[name] = house.do("by_command", source=str(path), target=str(files["notes.txt"]))

        def ended(asset_id: str) -> Any:
            found = house.do("api", path=f"/v1/assets/{asset_id}")["body"]
            return found if found["state"] not in {"uploaded", "screening"} else None

        for name, sent in api.items():
            assert sent["status"] == 201, (name, sent)
            sent["body"] = house.wait(lambda sent=sent: ended(sent["body"]["id"]))
        yield Bad(house, worker, good, folder, files, api, pages, said)
    finally:
        house.close()


@pytest.mark.parametrize(("name", "role", "code", "words", "_make"), CASES, ids=[case[0] for case in CASES])
def test_a_bad_file_has_one_code_and_plain_words_everywhere(
    bad_house: Bad, name: str, role: str, code: str, words: str, _make: Make
) -> None:
    asset = bad_house.api[name]["body"]
    assert (asset["state"], asset["failure"]["code"]) == ("refused", code)
    assert words in asset["failure"]["message"]
    assert plain(asset["failure"]["message"], name=name)
    sent = bad_house.pages[name]
    assert sent["status"] == 302
    assert "/new/check" in sent["location"]
    page = bad_house.house.wait(
        lambda: (
            found
            if "being checked" not in (found := bad_house.house.do("page_text", path=sent["location"]))["text"]
            else None
        )
    )
    assert page["status"] == 200
    assert words in page["text"]
    assert "Choose another file" in page["text"]
    assert "The other files are kept" in page["text"]
    assert plain(page["text"].replace("grace_hopper.jpg", ""), name=name)
    assert f"({code})" in bad_house.said[name]
    assert words in bad_house.said[name]
    verdict = bad_house.house.do("verify", path=str(bad_house.files[name]))
    assert verdict["code"] == ("nothing_found" if code in SEEN else "unreadable")
    assert plain(verdict["sentence"], name=name)


def test_an_empty_file_is_refused_before_it_is_stored(bad_house: Bad) -> None:
    path = bad_house.folder / "empty.jpg"
    path.touch()
    before = bad_house.house.do("api", path="/v1/assets")["body"]
    answer = bad_house.house.do("api_upload", path=str(path), role="source")
    assert (answer["status"], answer["body"]["code"]) == (422, "empty_file")
    assert plain(answer["body"]["detail"], name="empty.jpg")
    sent = bad_house.house.do("page_upload", path=str(path), role="source", keep=bad_house.good["target"])
    page = bad_house.house.do("page_text", path=sent["location"])
    assert "empty.jpg: The file is empty" in page["text"]
    assert f"target={bad_house.good['target']}" in sent["location"], "what was good is kept"
    said = bad_house.house.do("by_command", source=str(path), target=str(path))
    assert "(empty_file)" in said
    assert bad_house.house.do("verify", path=str(path))["code"] == "unreadable"
    assert bad_house.house.do("api", path="/v1/assets")["body"] == before


def test_of_several_faces_one_has_to_be_chosen(bad_house: Bad, samples: Path) -> None:
    house, path = bad_house.house, bad_house.folder / "couple.jpg"
    bad.couple(samples / "astronaut.jpg", samples / "grace_hopper.jpg", path)
    both = {role: house.upload_ready(path, role) for role in ("source", "target")}
    faces = house.do("api", path=f"/v1/assets/{both['target']}")["body"]["faces"]
    assert len(faces) == 2
    declared = house.do(
        "api",
        path="/v1/attestations",
        body={
            "kind": "declaration",
            "ticks": {
                box["name"]: True for box in house.do("api", path="/v1/attestation_texts/declaration")["body"]["boxes"]
            },
        },
    )["body"]["id"]
    good = bad_house.good
    for source, target in ((both["source"], good["target"]), (good["source"], both["target"])):
        body = {"sources": [{"asset": source}], "target": {"asset": target}, "declaration": declared}
        answer = house.do("api", path="/v1/jobs", body=body)
        assert (answer["status"], answer["body"]["code"]) == (422, "face_choice_required")
        assert "2 faces" in answer["body"]["detail"]
        asked = {"role": "face_donor", "name": "Ada", "purposes": ["personal"]}
        refs = {"photos": [{"asset": source}], "target": {"asset": target}}
        answer = house.do("api", path="/v1/consent_requests", body={**asked, **refs})
        assert (answer["status"], answer["body"]["code"]) == (422, "face_choice_required")
        page = house.do("page_text", path=f"/new/permission?source={source}&target={target}")
        assert page["path"] == "/new/faces"
        assert "several faces and none was chosen" in page["text"]
    # Chosen, or with one face only, the answer goes on to the next question: permission.
    body = {"sources": [{"asset": good["source"]}], "target": {"asset": both["target"], "face": faces[1]["index"]}}
    answer = house.do("api", path="/v1/jobs", body={**body, "declaration": declared})
    assert answer["body"]["code"] == "consent_required"
    assert answer["body"]["consent_request"]["photos"] == [{"asset": good["source"], "face": 0}]
    said = house.do("by_command", source=str(path), target=str(samples / "grace_hopper.jpg"))
    assert "--source-face" in said
    assert "face_choice_required" in said
    assert house.do("api", path="/v1/jobs")["body"]["data"] == []


def test_on_a_full_disk_an_upload_is_refused_and_leaves_nothing(bad_house: Bad) -> None:
    house, path = bad_house.house, bad_house.folder / "large.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(ENOUGH + 5_000_000))
    house.do("limit_files", size=ENOUGH)
    try:
        answer = house.do("api_upload", path=str(path), role="source")
        keep = bad_house.good["target"]
        sent = house.do("page_upload", path=str(path), role="source", keep=keep)
        said = house.do("by_command", source=str(path), target=str(path))
        assert house.do("strays") == []
    finally:
        house.do("limit_files", size=0)
    assert (answer["status"], answer["body"]["code"]) == (507, "disk_full")
    assert plain(answer["body"]["detail"], name="large.jpg")
    assert sent["status"] == 507
    assert "(disk_full)" in said


def test_after_all_of_it_nothing_is_left_over_and_the_same_worker_goes_on(bad_house: Bad, samples: Path) -> None:
    house = bad_house.house
    house.upload_ready(samples / "grace_hopper.jpg", "target")
    assert bad_house.worker.poll() is None
    house.wait(lambda: house.do("work_folders") == 0)
    assert house.do("strays") == []
    assert "Traceback" not in house.logs()
