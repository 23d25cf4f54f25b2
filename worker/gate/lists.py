"""Is a picture, a face in it, or a frame of a film on a list of picture hashes (PDQ)?

Each is looked up in the eight ways in which it can lie. The face is cut out along its landmarks first, which undoes
what PDQ alone does not bear: crops, small turns, borders. Measured on portraits: after a crop of 10 %
a side the whole picture's hash is 136 bits away (reference/gate.md 4.2), the face's 8. A face's hash finds the same
*picture* of the face; who it is, only a descriptor tells (`worker.gate.face_list`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import pdq
from worker.faces import align
from worker.faces.neural.points import five_of
from worker.faces.types import Rgb
from worker.gate.sampling import Alongside
from worker.gate.signals import Signal
from worker.limits import MIN_FACE_PIXELS
from worker.media import client
from worker.media.types import MediaInfo
from worker.pipeline.analysis import AnalysedFrame, Analysis

KIND: Final = "lists"
What = Literal["picture", "face"]
MOST_FRAMES: Final = 600  # of a film: one a second, and fewer a second of one over ten minutes
MOST_FACES: Final = 8  # of a picture, the largest
MOST_HITS: Final = 20  # that are written down
_TEMPLATE: Final = "arcface_128"
_SIDE: Final = 128
_SHORT_SIDE: Final = 512


class Hit(Protocol):
    """An entry near the hash of number `query`: the list's name and kind, the entry's line in the imported file."""

    @property
    def query(self) -> int: ...
    @property
    def list(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def distance(self) -> int: ...


class Installed(Protocol):
    """The lists of this house."""

    @property
    def names(self) -> Sequence[str]:
        """Of all lists."""
        ...

    @property
    def entries(self) -> int:
        """Of all lists together."""
        ...

    def search(self, asked: Sequence[bytes]) -> Sequence[Hit]:
        """All entries within 31 bits of one of these hashes (32 bytes each)."""
        ...


def measure(path: Path, info: MediaInfo, analysis: Analysis, installed: Installed) -> Signal:
    """The signal `lists`. Raises MediaError and ChildError, as every look into the file."""
    looked, hits = 0, list[dict[str, Any]]()
    for seconds, picture, faces in _pictures(path, info, analysis):
        looked += 1
        asked: list[bytes] = []
        about: list[What] = []
        for what, part in _parts(picture, faces):
            ways, quality = pdq.hash_ways(part)
            if quality >= pdq.LEAST_QUALITY:
                asked += ways
                about += [what] * len(ways)
        best: dict[tuple[str, int, str], dict[str, Any]] = {}
        for hit in installed.search(asked) if asked else ():
            what = about[hit.query]
            known = best.get((hit.list, hit.line, what))
            if known is None or hit.distance < known["distance"]:
                best[hit.list, hit.line, what] = {
                    "list": hit.list,
                    "kind": hit.kind,
                    "line": hit.line,
                    "distance": hit.distance,
                    "what": what,
                    "seconds": round(seconds, 2),
                }
        hits += best.values()
        if len(hits) >= MOST_HITS and any(hit["kind"] == "block" for hit in hits):
            break  # what is refused already needs no further look
    hits.sort(key=lambda hit: (hit["kind"] != "block", hit["distance"], hit["seconds"]))
    return measured(hits[:MOST_HITS], names=installed.names, entries=installed.entries, looked=looked)


def measured(hits: Sequence[dict[str, Any]], *, names: Sequence[str], entries: int, looked: int) -> Signal:
    """The signal: which entries were near, and in how many pictures of the file was looked."""
    value = {"hits": list(hits), "lists": list(names), "entries": entries, "looked": looked}
    return Signal(KIND, "measured", value, "pdq")


def hashes(picture: Rgb, faces: Sequence[NDArray[np.float32]]) -> Iterator[tuple[What, str, int]]:
    """(what, hash in hexadecimal, quality) of uint8 [H, W, 3] and of the faces with these landmarks: to make a list."""
    for what, part in _parts(picture, faces):
        value, quality = pdq.hash_picture(part)
        yield what, value.hex(), quality


def face_of(picture: Rgb, landmarks: NDArray[np.float32]) -> Rgb:
    """The face as it is hashed, uint8 [128, 128, 3]: cut out along its landmarks (any markup `five_of` knows)."""
    matrix = align.similarity(five_of(landmarks), np.array(align.TEMPLATES[_TEMPLATE]) * _SIDE)
    return align.warp(picture, matrix, _SIDE, border=cv2.BORDER_REPLICATE)


def _parts(picture: Rgb, faces: Sequence[NDArray[np.float32]]) -> Iterator[tuple[What, Rgb]]:
    yield "picture", picture
    for landmarks in faces[:MOST_FACES]:
        yield "face", face_of(picture, landmarks)


def _pictures(
    path: Path, info: MediaInfo, analysis: Analysis
) -> Iterator[tuple[float, Rgb, list[NDArray[np.float32]]]]:
    """(seconds, uint8 [H, W, 3], landmarks of its faces in its pixels) of a photo, or of frames all over a film."""
    if info.kind == "photo":
        for frame in analysis.frames():
            yield 0.0, client.decode_image(path), _landmarks(frame, 1.0)
        return
    analysed = Alongside(analysis)
    with client.open_frames(path, short_side=_SHORT_SIDE) as frames:
        step = max(1.0, frames.duration / MOST_FRAMES)
        for seconds, picture in frames.frames(0.0, MOST_FRAMES, step):
            nearest = analysed.at(seconds)
            yield seconds, picture, _landmarks(nearest, picture.shape[1] / analysis.info.width) if nearest else []


def _landmarks(frame: AnalysedFrame, scale: float) -> list[NDArray[np.float32]]:
    large = [face for face in frame.faces if float(face.box[2:].max()) >= MIN_FACE_PIXELS]
    large.sort(key=lambda face: -float(face.box[2:].max()))
    return [(face.landmarks * np.float32(scale)).astype(np.float32) for face in large]
