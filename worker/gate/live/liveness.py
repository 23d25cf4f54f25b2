"""The liveness check of a recorded clip: did the person of the source photos do what was asked of them just now?

What it resists and what not is said in the README: it reads landmarks, so it stops a still, a photo that is waved or
bent, another order, an old recording and another person; a face that is animated or exchanged in real time it cannot
tell from a real one. That gap is recorded as "face_forgery not installed" beside every report.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from watermark import video
from watermark.credentials import Credentials
from watermark.keys import MarkKey
from worker.faces.types import LANDMARK_COUNT
from worker.gate import signals
from worker.gate.live.clip_reading import MOST_SECONDS
from worker.gate.live.liveness_identity import Identity, judge_identity
from worker.gate.live.liveness_judge import ACTIONS, LEAST_SECONDS, REST_SECONDS, Judgement, judge
from worker.gate.live.motion import Motion, Rest, Sample
from worker.gate.signals import Signal
from worker.media import client
from worker.media.errors import ChildError, MediaError
from worker.media.magic import HEAD_BYTES, Sniffed, sniff
from worker.media.sandbox import Limits, call
from worker.pipeline.run import engine_connection, known_error

__all__ = ["ACTIONS", "MESSAGES", "POLICY_VERSION", "LivenessReport", "examine"]

POLICY_VERSION: Final = "2026-11.1"

Verdict = Literal["pass", "review", "fail"]

MESSAGES: Final[Mapping[str, str]] = {
    "clip_unreadable": "The recording could not be read. Nothing was kept of it. Record it once more.",
    "clip_too_large": "The recording is too large. Nothing was kept of it. Record again, for a few seconds only.",
    "clip_too_short": f"The recording is shorter than {LEAST_SECONDS:g} seconds. Record again, with all the actions.",
    "clip_too_long": f"The recording is longer than {MOST_SECONDS:g} seconds. Record again, without long pauses.",
    "no_face": "No face was seen. Hold the camera before your face and record again.",
    "too_dark": "Your face is too dark. Turn towards a lamp or a window and record again.",
    "too_bright": "Your face is too bright. Turn away from the strong light and record again.",
    "face_too_small": "Your face is too small in the picture. Come closer to the camera and record again.",
    "face_lost": "Your face left the picture or turned too far. Stay in the picture and record again.",
    "too_few_frames": "The recording stutters. Close other programs, use more light, and record again.",
    "two_faces": "Another face was seen. Record again with nobody else in the picture.",
    "changed_person": "The face did not stay the same. One person has to do the whole recording.",
    "cut": "The picture jumps. Record again in one go, and move a little more slowly.",
    "frozen": "The picture stood still for a while. Record again.",
    "made_by_ai": "The recording says that it was made or changed by AI. Record yourself with the camera.",
    "flat_picture": "This looked like a picture of a face, not a face. Record yourself with the camera.",
    "not_facing": "You did not look at the camera at the start. Look at it, wait a second, then begin.",
    "no_rest": "The first action began too early. Look at the camera, wait a second, then begin.",
    "no_action": "None of the actions was seen. Do each one clearly and come back to the middle after it.",
    "action_missing": "Not all actions were seen. Do each one clearly and come back to the middle after it.",
    "wrong_order": "The actions came in another order than asked. Do them in the order shown.",
    "extra_action": "Something else was done besides what was asked. Do the three actions only.",
    "actions_overlap": "Two actions ran into each other. Come back to the middle after each one.",
    "action_unfinished": "The last action was not finished. Come back to the middle before the recording ends.",
    "identity_mismatch": "The face is not the one in the photo. Only the person in the photo can do this.",
    "identity_unsure": "It is not certain that the face is the one in the photo. A person will look at it.",
    "no_reference": "There was no photo to compare with. A person will look at it.",
    "screening_incomplete": "A part of the screening did not work. A person will look at it.",
}
"""Stable code -> what happened and what to do. The codes that only ask for a person's look are `_REVIEW`."""

_REVIEW: Final = frozenset({"identity_unsure", "no_reference", "screening_incomplete"})
_MOST_BYTES: Final = 200 << 20
_MEMORY: Final = 3 << 30
_SECONDS: Final = 120.0
_MOST_FRAMES: Final = 400
_FACING_YAW, _FACING_PITCH = 20.0, 25.0
# Faults of the file; anything else that a media child reports is ours, and the person's challenge is not used up by it.
_OURS: Final = frozenset(
    {"child_died", "child_timeout", "child_out_of_memory", "child_failed", "disk_full", "canceled"}
)


@dataclass(frozen=True)
class SeenAction:
    """One of the actions asked for, where it was found; `peak` in degrees for the head, else in the judge's units."""

    name: str
    from_seconds: float
    to_seconds: float
    peak: float


@dataclass(frozen=True)
class LivenessReport:
    """What the check found: no landmark, no descriptor, nothing a face could be known by.

    `codes` are keys of `MESSAGES`, the first is the main reason, none for a pass. `not_screened` names what nothing
    here can screen for; `signals` are the gate's own records, as on an upload.
    """

    verdict: Verdict
    codes: tuple[str, ...]
    actions: tuple[SeenAction, ...]
    same_face_worst: float | None
    source_distance: float | None
    seconds: float
    frames: int
    not_screened: tuple[str, ...] = signals.NOT_SCREENED
    signals: tuple[Signal, ...] = ()
    policy_version: str = POLICY_VERSION

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return {
            "verdict": self.verdict,
            "codes": list(self.codes),
            "actions": [vars(one) for one in self.actions],
            "same_face_worst": self.same_face_worst,
            "source_distance": self.source_distance,
            "seconds": self.seconds,
            "frames": self.frames,
            "not_screened": list(self.not_screened),
            "signals": [one.to_dict() for one in self.signals],
            "policy_version": self.policy_version,
        }


def examine(
    path: Path,
    *,
    actions: Sequence[str],
    references: Sequence[NDArray[Any]],
    every: bool = False,
    engine_socket: Path,
    work_dir: Path,
    should_stop: Callable[[], bool] | None = None,
    mark_keys: Sequence[MarkKey] = (),
    anchors_pem: str = "",
) -> LivenessReport:
    """Check the clip at `path` (WebM or MP4) against the `actions` asked for (of `ACTIONS`, in order).

    `references` are descriptors float [128] of the source face, from the built-in descriptor, of which the clip has to
    match one, or with `every` all (the faces of one person in what is to be changed); `mark_keys` and
    `anchors_pem` are for finding our own mark and Content Credentials in the clip. Nothing is written; `work_dir` is
    the task's own folder, kept for a check that needs one. A bad clip is a report, not an error. Raises ValueError for
    an action that does not exist, and MediaError, ModelError, PipelineError when the check itself could not be made:
    then nothing was decided and the same clip may be checked again.
    """
    unknown = [action for action in actions if action not in ACTIONS]
    if unknown or not actions:
        raise ValueError(f"no such action: {', '.join(map(repr, unknown)) or 'none given'}")
    try:
        kind = _identified(path)
        clip = _read_clip(path, kind, engine_socket, should_stop)
        provenance = _provenance(path, kind, mark_keys, anchors_pem)
    except MediaError as error:
        if error.code in _OURS:
            raise
        return _refused("clip_too_large" if error.code == "too_large" else "clip_unreadable")
    try:
        return decide(clip, actions, references, provenance, every=every)
    except np.linalg.LinAlgError:  # landmarks of no face at all, from a reader that was taken over
        return _refused("clip_unreadable")


@dataclass(frozen=True)
class Clip:
    """What was read from a clip: arrays as `clip_reading.read_entry` describes them, checked."""

    seconds: NDArray[np.float64]
    landmarks: NDArray[np.float32]
    facts: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    described: NDArray[np.int32]
    long: bool = False


def decide(
    clip: Clip,
    actions: Sequence[str],
    references: Sequence[NDArray[Any]],
    provenance: Sequence[Signal] = (),
    *,
    every: bool = False,
) -> LivenessReport:
    """The report on what was read. Pure. Raises LinAlgError for landmarks that are points of no face."""
    samples, rest = _samples(clip)
    judged = judge(samples, actions)
    codes = ["clip_too_long"] if clip.long else []
    codes += _provenance_codes(provenance)
    identity = Identity((), None, None, None)
    if rest is None:
        codes += judged.codes or ("no_face",)
    else:
        known = [
            (face, one)
            for number, one in zip(clip.described.tolist(), clip.descriptors, strict=True)
            if (face := samples[number].face) is not None
        ]
        identity = judge_identity(known, references, every=every)
        facing = abs(rest.pose.yaw) <= _FACING_YAW and abs(rest.pose.pitch) <= _FACING_PITCH
        codes += _sorted([*judged.codes, *identity.codes, *([] if facing else ["not_facing"])])
    return _report(clip, judged, identity, tuple(dict.fromkeys(codes)), provenance)


def _report(
    clip: Clip, judged: Judgement, identity: Identity, codes: tuple[str, ...], provenance: Sequence[Signal]
) -> LivenessReport:
    verdict: Verdict = "pass"
    if codes:
        verdict = "review" if all(code in _REVIEW for code in codes) else "fail"
    gaps = signals.not_installed()
    return LivenessReport(
        verdict=verdict,
        codes=codes,
        actions=tuple(
            SeenAction(one.name, round(one.start, 2), round(one.end, 2), round(one.peak, 3)) for one in judged.matched
        ),
        same_face_worst=_rounded(identity.same_face_worst),
        source_distance=_rounded(identity.source_distance),
        seconds=round(float(clip.seconds[-1] - clip.seconds[0]), 2) if len(clip.seconds) else 0.0,
        frames=len(clip.seconds),
        not_screened=tuple(one.kind for one in gaps),
        signals=(*provenance, *gaps),
    )


def _sorted(codes: Sequence[str]) -> list[str]:
    """What is wrong with the recording before what is wrong with the face, as in `MESSAGES`."""
    order = list(MESSAGES)
    return sorted(codes, key=order.index)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _refused(code: str) -> LivenessReport:
    return LivenessReport("fail", (code,), (), None, None, 0.0, 0)


def _samples(clip: Clip) -> tuple[list[Sample], Rest | None]:
    seen = np.asarray(np.isfinite(clip.landmarks).all(axis=(1, 2)), np.bool_)
    rest = None
    if seen.any():
        first = clip.seconds[int(np.argmax(seen))]
        early = seen & (clip.seconds <= first + REST_SECONDS)
        rest = Rest(clip.landmarks[early])
    samples = []
    for number, seconds in enumerate(clip.seconds.tolist()):
        light, other, change, cut = (float(value) for value in clip.facts[number])
        face: Motion | None = None
        if rest is not None and seen[number]:
            face = rest.compare(clip.landmarks[number], light)
        samples.append(Sample(seconds, face, other=other, change=change, cut=cut > 0.5))
    return samples, rest


# -- reading -----------------------------------------------------------------------------------------------------------


def _identified(path: Path) -> Sniffed:
    with path.open("rb") as file:
        kind = sniff(file.read(HEAD_BYTES), path.name)
        if os.fstat(file.fileno()).st_size > _MOST_BYTES:
            raise MediaError("too_large")
    if kind.kind != "video":
        raise MediaError("format_unsupported", "a photo where a clip is expected")
    return kind


def _read_clip(path: Path, kind: Sniffed, engine_socket: Path, should_stop: Callable[[], bool] | None) -> Clip:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with engine_connection(engine_socket) as engine:
            reply = call(
                "worker.gate.live.clip_reading:read_entry",
                {"container": kind.container},
                fds=[fd, engine],
                limits=Limits(memory=_MEMORY, cpu_seconds=int(_SECONDS), threads=1),
                timeout=_SECONDS,
                should_stop=should_stop,
            )
    except ChildError as error:
        raise known_error(error) from error
    finally:
        os.close(fd)
    return _checked(reply)


def _checked(reply: Mapping[str, Any]) -> Clip:
    """The child's answer, brought to its shape: it had parsed untrusted media. Raises MediaError."""
    arrays = reply.get("arrays", [])
    if len(arrays) != 5:
        raise MediaError("child_died", "an answer without its arrays")
    seconds, landmarks, facts, descriptors, described = arrays
    count, faces = len(seconds), len(described)
    sound = (
        seconds.shape == (count,)
        and count <= _MOST_FRAMES
        and landmarks.shape == (count, LANDMARK_COUNT, 3)
        and facts.shape == (count, 4)
        and descriptors.shape[:1] == (faces,)
        and descriptors.ndim == 2
        and np.isfinite(seconds).all()
        and np.isfinite(facts).all()
        and bool(np.all((described >= 0) & (described < max(count, 1))))
    )
    if not sound:
        raise MediaError("child_died", "an answer of another shape")
    return Clip(
        seconds.astype(np.float64),
        landmarks.astype(np.float32),
        facts.astype(np.float32),
        descriptors.astype(np.float32),
        described.astype(np.int32),
        bool(reply.get("long")),
    )


def _provenance(path: Path, kind: Sniffed, keys: Sequence[MarkKey], anchors_pem: str) -> list[Signal]:
    """Our own mark and the file's Content Credentials, as the gate records them for an upload."""
    found = []
    if keys:
        try:
            with client.open_frames(path, any_rate=True) as frames:
                reading = video.read(frames, keys)
            found.append(signals.own_mark(reading.mark_id if reading is not None else None, "video"))
        except MediaError as error:
            if error.code == "canceled":
                raise
            found.append(signals.failed("own_mark", error.code))
    try:
        read = Credentials.from_dict(client.read_credentials(path, kind.mime, anchors_pem))
        found.append(
            signals.credentials(
                read.state, is_ours=read.is_ours, issuer=read.issuer or None, source_types=read.digital_source_types
            )
        )
    except (MediaError, ChildError, ValueError) as error:
        found.append(signals.failed("credentials", str(getattr(error, "code", "unreadable"))))
    return found


def _provenance_codes(provenance: Sequence[Signal]) -> list[str]:
    codes = []
    for one in provenance:
        if one.status == "error":
            codes.append("screening_incomplete")
        elif one.value.get("found") or one.value.get("is_ours") or one.value.get("declared_synthetic"):
            codes.append("made_by_ai")
    return codes
