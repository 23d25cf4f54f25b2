"""The gate's measurements on an upload and on a job. It asks the tools; `policy` alone decides what the answers mean.

Untrusted bytes are parsed in media children only; what arrives here are arrays and plain values.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.credentials import Credentials
from watermark.keys import MarkKey
from worker.faces import select
from worker.faces.landmarks import pose_of
from worker.faces.types import Pose
from worker.gate import signals
from worker.gate.declared import own, provenance
from worker.gate.declared.declarations import program_named
from worker.gate.looks import alignment, replay, stay_down
from worker.gate.looks.looking import Look
from worker.gate.looks.own_mark import MarkLook
from worker.gate.screeners import Screeners
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.media import client
from worker.media.errors import MediaError
from worker.media.types import MediaInfo
from worker.memory import give_back
from worker.pipeline.analysed import Track
from worker.pipeline.analysis import Analysis

PREVIEW_SIDE = 640  # pixels of the longer side
MOST_PREVIEWS = 16
FRAME_COLOUR = (255, 196, 0)


class UnusableError(Exception):
    """The file is sound but cannot be used in this role. `code`: source_not_photo, too_large."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class SizeLimits:
    """Largest upload in bytes, by kind."""

    photo: int
    video: int


def probe(path: Path, name: str, role: str, limits: SizeLimits) -> MediaInfo:
    """What the upload is. Raises MediaError for a bad file, UnusableError for a good one in the wrong role or size."""
    info = client.probe(path, name=name or None)
    if role == "source" and info.kind != "photo":
        raise UnusableError("source_not_photo", "The face donor is shown by photos, this is a video. Send a photo.")
    limit = limits.photo if info.kind == "photo" else limits.video
    if info.size > limit:
        raise UnusableError(
            "too_large", f"The {info.kind} is larger than {limit >> 20} MiB. Make it smaller and send it again."
        )
    return info


def measure(
    upload: Upload,
    info: MediaInfo,
    analysis: Analysis,
    *,
    role: str,
    keys: Sequence[MarkKey],
    anchors_pem: str,
    listed: stay_down.Listed,
    outputs: own.Outputs,
    screeners: Screeners,
    looks: Sequence[Look] = (),
) -> list[Signal]:
    """All signals of one upload: size, faces, markable, a mark of this house and which of our `outputs` it leads to,
    Content Credentials, what the file declares, where the faces lie, signs of a photographed screen, what stays down
    (`listed`), what `screeners` and further `looks` saw in it, and the gaps."""
    mark = MarkLook(upload, analysis, keys, outputs)
    found = [
        signals.dimensions(info.width, info.height, info.duration),
        signals.faces(role, [track.size for track in analysis.tracks]),
        *([] if mark.shares else [mark.read(), mark.markable]),
        _credentials(upload, anchors_pem, outputs),
        provenance.measure(upload.path),
        alignment.measure(analysis),
        replay.measure(upload),
    ]
    give_back()  # what reading a film takes
    kept_down = stay_down.known(found, listed)
    if kept_down is None:
        looks = [stay_down.StayDownLook(listed, info.duration or 0.0), *looks]
    seen = screeners.look(upload, analysis, [mark, *looks] if mark.shares else looks)
    give_back()
    if mark.shares:
        found.append(mark.markable)
        kept_down = stay_down.known(seen, listed)
    if kept_down is not None:
        seen = [each for each in seen if each.kind != kept_down.kind]
        found.append(kept_down)
    gaps = [gap for gap in signals.not_installed() if gap.kind not in {each.kind for each in seen}]
    return [*found, *seen, *gaps]


def faces_of(analysis: Analysis) -> list[dict[str, Any]]:
    """The faces or tracks to pick from: index, box and size in pixels, seconds, yaw in degrees; nothing biometric."""
    return [
        {
            "index": track.id,
            "box": [round(float(value), 1) for value in track.box],
            "size": round(float(track.size), 1),
            "yaw": round(float(track.yaw), 1),
            "first_seconds": track.first_seconds,
            "last_seconds": track.last_seconds,
            "best_seconds": track.best_seconds,
            "frames": track.frames,
        }
        for track in analysis.tracks
    ]


def previews(upload: Upload, analysis: Analysis, *, allowed: bool) -> Iterator[tuple[int, bytes]]:
    """(index, small JPEG with that face framed) for each of the first MOST_PREVIEWS faces or tracks.

    None where the decision does not allow that anybody is shown the file.
    """
    tracks = analysis.tracks[:MOST_PREVIEWS] if allowed else ()
    if not tracks:
        return
    if upload.kind == "photo":
        for track in tracks:
            yield track.id, _framed(upload.photo, track, 1.0)
        return
    with client.open_frames(upload.path) as video:
        for track in sorted(tracks, key=lambda track: track.best_seconds):
            for _, picture in video.frames(track.best_seconds, 1):
                yield track.id, _framed(picture, track, video.shrink)


@dataclass(frozen=True)
class Chosen:
    """A source photo or the target of a job: its hash, the face picked in it, and its analysis."""

    sha256: str
    face: int
    analysis: Analysis


@dataclass(frozen=True)
class Confirmed:
    """The faces the donor confirmed: (hash of the photo, index of the face)."""

    faces: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, photos: Sequence[Mapping[str, Any]]) -> Self:
        """From a consent's `photos`."""
        return cls(tuple((str(photo["sha256"]), int(photo["face"])) for photo in photos))


@dataclass(frozen=True)
class Pair:
    """One replacement of a job: the source photos, the face they go onto, and what their donor confirmed."""

    chosen: Sequence[Chosen]
    target: Chosen
    confirmed: Confirmed


def measure_job(
    pairs: Sequence[Pair],
    levels: Sequence[str],
    profiles: Sequence[str],
    *,
    gaps: Collection[str] | None,
    relationships: Sequence[str] = (),
    least: str = "L1",
) -> list[Signal]:
    """Signals of a job: chosen faces against those the donors confirmed, pose, levels of assurance, and the gaps.

    Of several replacements the worst speaks for the job.

    `profiles`: under which each asset was let through, `gaps`: kinds that one of them was
    not screened for, None for all. `relationships`: what each person is to the account. `least`:
    the level of assurance that the use needs.
    """
    return [
        _identity(pairs),
        _pose(pairs),
        signals.assurance(levels, least),
        signals.asset_profiles(profiles),
        signals.relationships(relationships),
        *signals.carried(gaps),
    ]


def _pose(pairs: Sequence[Pair]) -> Signal:
    fits = []
    for pair in pairs:
        sources = [pose for each in pair.chosen for pose in _poses(each)]
        fit = select.fit_poses(sources, _poses(pair.target)) if sources else None
        if fit is None or not fit.frames or not math.isfinite(fit.widest):
            return signals.failed("pose", "no_landmarks")
        fits.append(fit)
    worst = max(fits, key=lambda fit: (fit.turned / fit.frames, fit.widest))
    return signals.pose(worst.frames, worst.turned, worst.widest)


def _poses(chosen: Chosen) -> Iterator[Pose]:
    for frame in chosen.analysis.frames():
        for face in frame.faces:
            if face.track == chosen.face:
                yield pose_of(face.landmarks)


def _identity(pairs: Sequence[Pair]) -> Signal:
    distances: list[float] = []
    for pair in pairs:
        descriptors = [_descriptor(each) for each in pair.chosen]
        confirmed = [(each.sha256, each.face) in pair.confirmed.faces for each in pair.chosen]
        reference = next((d for d, known in zip(descriptors, confirmed, strict=True) if known), None)
        if reference is None or any(d is None for d in descriptors):
            return signals.failed("identity", "no_reference" if reference is None else "no_descriptor")
        distances += [float(np.linalg.norm(d - reference)) for d in descriptors if d is not None]
    if not all(math.isfinite(distance) for distance in distances):
        return signals.failed("identity", "not_finite")
    return signals.identity(distances)


def _descriptor(chosen: Chosen) -> NDArray[np.float64] | None:
    for track in chosen.analysis.tracks:
        if track.id == chosen.face and track.descriptor is not None:
            return np.asarray(track.descriptor, np.float64)
    return None


def _credentials(upload: Upload, anchors_pem: str, outputs: own.Outputs) -> Signal:
    try:
        found = Credentials.from_dict(client.read_credentials(upload.path, upload.mime, anchors_pem))
    except (MediaError, ValueError) as error:
        return signals.failed("credentials", getattr(error, "code", "unreadable"))
    agents = (action.agent for action in found.actions)
    return signals.credentials(
        found.state,
        is_ours=found.is_ours,
        issuer=found.issuer or None,
        # That of an ingredient counts as well: a generated picture that was edited since is still one.
        source_types=[*found.digital_source_types, *([found.ai_source_type] if found.ai_source_type else [])],
        ai_generator=next((name for name in map(program_named, (found.generator, *agents)) if name), ""),
        output=own.of_manifest(outputs, found.label, found.mark_ids) if found.is_ours else None,
    )


def _framed(picture: NDArray[np.uint8], track: Track, shrink: float) -> bytes:
    """A small JPEG of a picture that is `shrink` times as large as the one the track's box is told in."""
    height, width = picture.shape[:2]
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    small = cv2.resize(
        picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    x, y, w, h = (float(value) * scale * shrink for value in track.box)
    thickness = max(2, round(max(small.shape[:2]) / 200))
    cv2.rectangle(small, (round(x), round(y)), (round(x + w), round(y + h)), FRAME_COLOUR, thickness, cv2.LINE_AA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return data.tobytes()
