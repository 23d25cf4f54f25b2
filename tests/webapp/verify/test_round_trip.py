"""Published, stripped of its manifest in every usual way, and found again; and what was moved to another picture."""

from __future__ import annotations

import base64
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from django.test import Client
from numpy.typing import NDArray
from PIL import Image

from tests.webapp import publishing
from tests.webapp.conftest import Stage
from watermark import image
from watermark.credentials import MARK_ALGORITHM
from watermark.credentials_reader import read
from webapp import keys_of_house
from webapp.jobs.models import Output
from webapp.verify import services
from worker.media.sample_clip import make_clip
from worker.media.sandbox import call

pytestmark = pytest.mark.django_db


def large(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(rgb).resize((1024, 1200), Image.Resampling.LANCZOS))


def reencode(path: Path, out: Path, kind: str) -> None:
    payload = {"kind": kind, "path": str(path), "out": str(out)}
    call("worker.media.reencode:reencode", payload, timeout=120, reads=[path], writes=[out.parent])


def of_photo(change: Callable[[Image.Image], Image.Image]) -> Callable[[Path, Path], None]:
    def strip(path: Path, out: Path) -> None:
        with Image.open(path) as picture:
            change(picture.convert("RGB")).save(out.with_suffix(".jpg"), quality=85)
        out.with_suffix(".jpg").replace(out)

    return strip


def of_film(change: Callable[[av.VideoFrame], av.VideoFrame] | None) -> Callable[[Path, Path], None]:
    """Written again with every picture changed; None: the packets as they are (remux)."""

    def strip(path: Path, out: Path) -> None:
        with av.open(str(path)) as source, av.open(str(out), "w", format="mp4") as target:
            video = source.streams.video[0]
            if change is None:
                kept = [target.add_stream_from_template(stream) for stream in source.streams]
                for packet in source.demux():
                    if packet.dts is not None:
                        packet.stream = kept[packet.stream.index]
                        target.mux(packet)
                return
            stream = None
            for number, frame in enumerate(source.decode(video)):
                changed = change(frame)
                if stream is None:
                    stream = target.add_stream("libx264", rate=25, options={"crf": "23", "preset": "veryfast"})
                    stream.width, stream.height, stream.pix_fmt = changed.width, changed.height, "yuv420p"
                changed.pts, changed.time_base, changed.pict_type = number, Fraction(1, 25), 0
                target.mux(stream.encode(changed))
            assert stream is not None
            target.mux(stream.encode(None))

    return strip


def cropped_frame(frame: av.VideoFrame) -> av.VideoFrame:
    """A fifth of each side cut off."""
    rgb = frame.to_ndarray(format="rgb24")
    height, width = rgb.shape[:2]
    cut = np.ascontiguousarray(
        rgb[height // 10 // 2 * 2 :, width // 10 // 2 * 2 :][: height * 4 // 5, : width * 4 // 5]
    )
    return av.VideoFrame.from_ndarray(cut, format="rgb24").reformat(format="yuv420p")


PHOTO = {
    "re-encoded": lambda path, out: reencode(path, out, "photo"),
    "half the size": of_photo(lambda picture: picture.resize((picture.width // 2, picture.height // 2))),
    "a fifth cut off": of_photo(lambda picture: picture.crop((102, 60, 102 + 819, 60 + 960))),
}
FILM = {
    "re-encoded": lambda path, out: reencode(path, out, "video"),
    "remuxed": of_film(None),
    "half the size": of_film(lambda frame: frame.reformat(width=960, height=540, format="yuv420p")),
    "a fifth cut off": of_film(cropped_frame),
}


def recovered(output: Output, path: Path, copies: dict[str, Callable[[Path, Path], None]], mime: str) -> None:
    """Every copy is ours, recovered by the mark, and leads to the very manifest that was published."""
    for name, strip in copies.items():
        copy = path.with_name("copy")
        copy.unlink(missing_ok=True)
        strip(path, copy)
        found = services.verify_file(copy)
        assert found.evidence.credentials is not None
        assert found.evidence.credentials.state == "none", name
        assert found.code == "ours_recovered", (name, found.reason, found.sentence)
        assert found.output is not None
        assert found.output.output_id == output.pk, name
        assert found.evidence.mark is not None
        stored = Output.objects.get(mark_id=found.evidence.mark.mark_id)
        again = read(copy, mime, anchors_pem=keys_of_house.anchors_pem(), store=bytes(stored.manifest_store))
        assert (again.state, again.recovered, again.label) == ("trusted", True, output.manifest_label), name
        assert resolved(copy, mime, found.evidence.mark.mark_id) == bytes(output.manifest_store), name


def resolved(copy: Path, mime: str, mark_id: bytes) -> bytes:
    """The manifest a stranger gets who knows no more than the copy: by what its mark says, and by its content."""
    asked = {"alg": MARK_ALGORITHM, "value": base64.b64encode(mark_id).decode()}
    by_mark = Client().get("/c2pa/v1/matches/byBinding", asked).json()["matches"]
    by_content = Client().post("/c2pa/v1/matches/byContent", copy.read_bytes(), content_type=mime).json()["matches"]
    assert [each["manifestId"] for each in by_mark] == [by_content[0]["manifestId"]]
    return bytes(Client().get(f"/c2pa/v1/manifests/{by_mark[0]['manifestId']}").content)


def test_a_photo_is_found_again_after_everything_a_platform_does(
    stage: Stage, grace: NDArray[np.uint8], tmp_path: Path
) -> None:
    job = publishing.at_work(stage)
    made = publishing.marked_photo(tmp_path / "output.jpg", "image/jpeg", large(grace), bytes(job.mark_id or b""))
    output, path = publishing.published(stage, job, made)
    assert bytes(output.manifest_store)[:4096] in path.read_bytes()
    recovered(output, path, PHOTO, "image/jpeg")


def test_a_film_is_found_again_after_everything_a_platform_does(stage: Stage, samples: Path, tmp_path: Path) -> None:
    make_clip(samples / "astronaut.jpg", tmp_path / "clip.mp4", seconds=2.0, size=(1920, 1080))
    job = publishing.at_work(stage)
    made = publishing.marked_video(
        tmp_path / "output.mp4", "video/mp4", tmp_path / "clip.mp4", bytes(job.mark_id or b"")
    )
    output, path = publishing.published(stage, job, made)
    recovered(output, path, FILM, "video/mp4")


@pytest.fixture
def published(stage: Stage, grace: NDArray[np.uint8], tmp_path: Path) -> tuple[Output, Path, NDArray[np.uint8]]:
    """A published photo, its file, and its marked pixels."""
    job = publishing.at_work(stage)
    rgb = large(grace)
    made = publishing.marked_photo(tmp_path / "output.jpg", "image/jpeg", rgb, bytes(job.mark_id or b""))
    output, path = publishing.published(stage, job, made)
    with Image.open(path) as picture:
        return output, path, np.asarray(picture.convert("RGB"))


def with_manifest_of(path: Path, picture: Image.Image, out: Path) -> Path:
    """Another picture with the APP11 segments of the file at `path` in it."""
    data, segments, place = path.read_bytes(), b"", 2
    while data[place + 1] != 0xDA:
        size = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] == 0xEB:
            segments += data[place : place + size]
        place += size
    assert segments
    picture.save(out, quality=92)
    other = out.read_bytes()
    out.write_bytes(other[:2] + segments + other[2:])
    return out


def test_a_manifest_on_another_picture_disagrees_and_on_its_own_it_is_changed(
    published: tuple[Output, Path, NDArray[np.uint8]], astronaut: NDArray[np.uint8], tmp_path: Path
) -> None:
    output, path, rgb = published
    moved = services.verify_file(with_manifest_of(path, Image.fromarray(astronaut), tmp_path / "moved.jpg"))
    assert moved.evidence.credentials is not None
    assert moved.evidence.credentials.label == output.manifest_label
    assert (moved.code, moved.reason, moved.output) == ("disagree", "mark_missing", None)
    again = services.verify_file(with_manifest_of(path, Image.fromarray(rgb), tmp_path / "again.jpg"))
    assert again.code == "ours_changed"


def test_a_mark_on_another_picture_disagrees(
    published: tuple[Output, Path, NDArray[np.uint8]], astronaut: NDArray[np.uint8], tmp_path: Path
) -> None:
    output, path, _ = published
    key = keys_of_house.mark_keys()[0]
    other = image.embed(large(astronaut), bytes(output.mark_id), key)  # as a perfect forger would
    forged = tmp_path / "forged.png"
    Image.fromarray(other).save(forged)
    found = services.verify_file(forged)
    assert found.evidence.mark is not None
    assert (found.code, found.reason, found.output) == ("disagree", "content_mismatch", None)
    # With the manifest beside it: both name the output, and the picture is still another.
    both = services.verify_file(with_manifest_of(path, Image.fromarray(other), tmp_path / "both.jpg"))
    assert (both.code, both.reason) == ("disagree", "content_mismatch")
