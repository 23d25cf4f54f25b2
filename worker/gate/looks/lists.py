"""Is a picture, a face in it, or a frame of a film on a list of picture hashes (PDQ)?

Each is looked up in the eight ways in which it can lie. The face is cut out along its landmarks first, which undoes
what PDQ alone does not bear: crops, small turns, borders. Measured on portraits: after a crop of 10 %
a side the whole picture's hash is 136 bits away (reference/gate.md 4.2), the face's 8. A face's hash finds the same
*picture* of the face; who it is, only a descriptor tells (`worker.gate.looks.face_list`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark import pdq
from worker.faces import align
from worker.faces.neural.points import five_of
from worker.faces.types import Rgb
from worker.gate.looks.looking import Apart
from worker.gate.looks.sampling import Sample
from worker.gate.signals import Signal
from worker.limits import MIN_FACE_PIXELS
from worker.pipeline.analysis import Analysis

KIND: Final = "lists"
What = Literal["picture", "face"]
MOST_FRAMES: Final = 600  # of a film over ten minutes, about
MOST_FACES: Final = 8  # of a picture, the largest
MOST_HITS: Final = 20  # that are written down
_TEMPLATE: Final = "arcface_128"
_SIDE: Final = 128


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


class ListsLook:
    """Looks the sampled pictures of an upload up in the lists that are `installed`: a `looking.Look`."""

    kind: str = KIND

    def __init__(self, installed: Installed, analysis: Analysis) -> None:
        self._installed = installed
        self._width = analysis.info.width
        # Of a film no longer than that all pictures that are sampled, and else some all over it.
        duration = analysis.info.duration
        self._apart = Apart(duration / MOST_FRAMES if duration > MOST_FRAMES else 0.0)
        self._hits: list[dict[str, Any]] = []

    def take(self, sample: Sample) -> None:
        """Look one picture up; what is refused already needs no further look."""
        if len(self._hits) >= MOST_HITS and any(hit["kind"] == "block" for hit in self._hits):
            return
        if not self._apart.wants(sample.seconds):
            return
        asked: list[bytes] = []
        about: list[What] = []
        for what, part in _parts(sample.rgb, self._faces(sample)):
            ways, quality = pdq.hash_ways(part)
            if quality >= pdq.LEAST_QUALITY:
                asked += ways
                about += [what] * len(ways)
        best: dict[tuple[str, int, str], dict[str, Any]] = {}
        for hit in self._installed.search(asked) if asked else ():
            what = about[hit.query]
            known = best.get((hit.list, hit.line, what))
            if known is None or hit.distance < known["distance"]:
                best[hit.list, hit.line, what] = {
                    "list": hit.list,
                    "kind": hit.kind,
                    "line": hit.line,
                    "distance": hit.distance,
                    "what": what,
                    "seconds": round(sample.seconds, 2),
                }
        self._hits += best.values()

    def finish(self) -> Signal:
        """The signal `lists`."""
        hits = sorted(self._hits, key=lambda hit: (hit["kind"] != "block", hit["distance"], hit["seconds"]))
        names, entries = self._installed.names, self._installed.entries
        return measured(hits[:MOST_HITS], names=names, entries=entries, looked=self._apart.count)

    def _faces(self, sample: Sample) -> list[NDArray[np.float32]]:
        """The landmarks of its faces, largest first; those too small in the upload's own pixels are left out."""
        least = MIN_FACE_PIXELS * sample.rgb.shape[1] / self._width
        large = [face for face in sample.faces if float(face.box[2:].max()) >= least]
        large.sort(key=lambda face: -float(face.box[2:].max()))
        return [face.landmarks for face in large]


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
