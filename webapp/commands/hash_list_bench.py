"""How quick the look-up of picture hashes is, and what it finds after common changes of a picture."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import pdq
from watermark.hash_index import RADIUS, SIZE, HashIndex
from webapp.commands.progress import ProgressBar
from worker.gate.looks import lists

Rgb = NDArray[np.uint8]
Locate = Callable[[Rgb], Sequence[NDArray[np.float32]]]

GOAL: Final = 20.0  # ms for the eight hashes of one picture
ROUNDS: Final = 100
SEED: Final = 31


@dataclass(frozen=True)
class Recall:
    """How often a changed picture is found again: by the whole picture and, if faces were looked for, by the face.

    `distance`: of the whole picture's hash in the middle, in bits.
    """

    change: str
    pictures: int
    whole: float
    face: float | None
    distance: float

    def line(self) -> str:
        by_face = "" if self.face is None else f"   by the face {self.face:6.1%}"
        return f"{self.change:<26} whole picture {self.whole:6.1%} (distance {self.distance:5.0f}){by_face}"


def speed(entries: int) -> Iterator[str]:
    """Build an index of synthetic hashes, look up near and strange ones, and yield what is to be said."""
    rng = np.random.default_rng(SEED)
    with ProgressBar("gate lists bench") as bar, tempfile.TemporaryDirectory() as folder:
        bar.show(f"{entries:,} hashes", 0.1)
        hashes = np.frombuffer(rng.bytes(entries * SIZE), np.uint8).reshape(-1, SIZE)
        begin = time.monotonic()
        path = Path(folder) / "bench.idx"
        HashIndex.build(hashes, np.zeros(entries, np.uint16), np.arange(entries, dtype=np.uint32)).write(path)
        built = time.monotonic() - begin
        index = HashIndex.open(path)
        times, found = [], 0
        for turn in range(ROUNDS):
            number, apart = int(rng.integers(entries)), turn % (RADIUS + 1)
            near = np.unpackbits(hashes[number])
            near[rng.choice(near.size, apart, replace=False)] ^= 1
            asked = [np.packbits(near).tobytes(), *(rng.bytes(SIZE) for _ in range(7))]
            start = time.perf_counter()
            matches = index.search(asked)
            times.append((time.perf_counter() - start) * 1000)
            found += any(match.query == 0 and match.line == number and match.distance == apart for match in matches)
            bar.show(f"look-up {turn + 1} of {ROUNDS}", 0.3 + 0.7 * turn / ROUNDS)
        size = path.stat().st_size / 2**20
    yield f"{entries:,} hashes, {size:.0f} MiB in one file that all processes map, built in {built:.1f} s"
    yield (
        f"one picture (8 hashes) within {RADIUS} bits: {statistics.median(times):.2f} ms in the middle, "
        f"{max(times):.2f} ms at most (goal {GOAL:g} ms); found {found} of {ROUNDS}"
    )


def recall(pictures: Sequence[Rgb], locate: Locate | None = None) -> Iterator[Recall]:
    """Each change of `CHANGES` on all of `pictures`, uint8 [H, W, 3]; `locate` gives the landmarks of faces."""
    whole = [pdq.hash_picture(picture)[0] for picture in pictures]
    faces = [_face(picture, locate) for picture in pictures]
    for name, change in CHANGES.items():
        apart, face_apart = [], []
        for picture, known, known_face in zip(pictures, whole, faces, strict=True):
            changed = change(picture)
            apart.append(_nearest(known, changed))
            if locate is not None and known_face is not None:
                part = _part(changed, locate)
                face_apart.append(256 if part is None else _nearest(known_face, part))
        yield Recall(
            name,
            len(pictures),
            _share(apart),
            _share(face_apart) if face_apart else None,
            float(statistics.median(apart)),
        )


def false_matches(hashes: Sequence[bytes]) -> tuple[int, int, int]:
    """(pairs, how many of them are within the radius, the least distance) of different pictures' hashes."""
    apart = [pdq.distance(a, b) for number, a in enumerate(hashes) for b in hashes[:number]]
    return len(apart), sum(distance <= RADIUS for distance in apart), min(apart, default=256)


def hashes_of(pictures: Sequence[Rgb], locate: Locate | None = None) -> list[bytes]:
    """The whole pictures' hashes, or with `locate` those of their largest faces."""
    if locate is None:
        return [pdq.hash_picture(picture)[0] for picture in pictures]
    return [value for picture in pictures if (value := _face(picture, locate)) is not None]


def _share(apart: Sequence[int]) -> float:
    return sum(distance <= RADIUS for distance in apart) / len(apart)


def _nearest(known: bytes, picture: Rgb) -> int:
    return min(pdq.distance(known, way) for way in pdq.hash_ways(picture)[0])


def _part(picture: Rgb, locate: Locate) -> Rgb | None:
    found = locate(picture)
    return lists.face_of(picture, found[0]) if len(found) else None


def _face(picture: Rgb, locate: Locate | None) -> bytes | None:
    part = None if locate is None else _part(picture, locate)
    return None if part is None else pdq.hash_picture(part)[0]


def _jpeg(quality: int) -> Callable[[Rgb], Rgb]:
    def change(rgb: Rgb) -> Rgb:
        _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert bgr is not None  # encoded a line above
        return np.ascontiguousarray(bgr[..., ::-1])

    return change


def _gamma(rgb: Rgb) -> Rgb:
    return np.asarray((rgb / 255.0) ** 1.4 * 255, np.uint8)


def _half(rgb: Rgb) -> Rgb:
    return np.asarray(cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def _crop(share: float) -> Callable[[Rgb], Rgb]:
    def change(rgb: Rgb) -> Rgb:
        height, width = rgb.shape[:2]
        down, across = round(height * share), round(width * share)
        return np.ascontiguousarray(rgb[down : height - down, across : width - across])

    return change


def _rotate(degrees: float) -> Callable[[Rgb], Rgb]:
    def change(rgb: Rgb) -> Rgb:
        height, width = rgb.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        return np.asarray(cv2.warpAffine(rgb, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    return change


def _banner(rgb: Rgb) -> Rgb:
    covered = rgb.copy()
    covered[round(rgb.shape[0] * 0.88) :] = 255
    return covered


CHANGES: Final[Mapping[str, Callable[[Rgb], Rgb]]] = {
    "JPEG quality 30": _jpeg(30),
    "gamma 1.4": _gamma,
    "half size": _half,
    "mirrored": lambda rgb: np.ascontiguousarray(rgb[:, ::-1]),
    "turned by 90 degrees": lambda rgb: np.ascontiguousarray(np.rot90(rgb)),
    "banner over 12 %": _banner,
    "crop of 2 % a side": _crop(0.02),
    "crop of 5 % a side": _crop(0.05),
    "crop of 10 % a side": _crop(0.10),
    "rotated by 3 degrees": _rotate(3.0),
}
