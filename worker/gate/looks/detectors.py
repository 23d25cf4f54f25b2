"""Running detector packs on an upload: preparation by the manifest, a time-out for each batch, one row for each pack.

What the rows lead to is decided by `content_policy`; only packs that stand as enforcing make a kind screened.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces import align
from worker.gate.looks.looking import Batches, LookError, Spread
from worker.gate.looks.sampling import Sample, SampledFace
from worker.gate.packs import aggregate
from worker.gate.packs.calibration import Calibration, sigmoid
from worker.gate.packs.standing import Standing
from worker.gate.signals import Signal
from worker.inference.packs import Pack
from worker.inference.types import ModelError, ModelRunner
from worker.pipeline.analysed import Track

MOST_OF_TRACK: Final = 48
UNCALIBRATED: Final = 0.5  # the threshold shown for shares and runs where no calibration set one
_SHARPNESS_SIDE: Final = 128


def prepare(pack: Pack, rgb: NDArray[np.uint8], face: SampledFace | None) -> NDArray[np.float32]:
    """The picture, or a face of it, as the manifest wants it: float32 [3, S, S] or [S, S, 3]."""
    image = pack.image
    picture = _whole(pack, rgb) if face is None else align.warp(rgb, _cut(pack, face), image.side)
    if image.colours == "BGR":
        picture = picture[:, :, ::-1]
    scaled = (picture.astype(np.float32) / 255.0 - np.array(image.mean, np.float32)) / np.array(image.std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1) if image.layout == "NCHW" else scaled, np.float32)


def fake_scores(pack: Pack, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Raw scores 0..1, higher is fake, from a pack's outputs [N, values] or [N]."""
    values = rows.reshape(len(rows), -1).astype(np.float64)
    match pack.form:
        case "softmax":
            shifted = np.exp(values - values.max(axis=1, keepdims=True))
            scores = shifted[:, pack.index] / shifted.sum(axis=1)
        case "logit":
            scores = sigmoid(values[:, pack.index])
        case _:
            scores = np.clip(values[:, pack.index], 0.0, 1.0)
    return 1.0 - scores if pack.higher == "real" else scores


def usable(rgb: NDArray[np.uint8], face: SampledFace) -> bool:
    """Whether a face is large and sharp enough for a detector to say anything about it."""
    if float(face.box[2:].max()) < aggregate.LEAST_PIXELS:
        return False
    centre = face.box[:2] + face.box[2:] / 2
    cut = align.square(centre, float(face.box[2:].max()), 0.0, _SHARPNESS_SIDE)
    grey = cv2.cvtColor(align.warp(rgb, cut, _SHARPNESS_SIDE), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var()) >= aggregate.LEAST_SHARPNESS


@dataclass(frozen=True)
class Seen:
    """What one pack saw: (seconds, raw score) of each face or picture, and how many faces it could not use.

    A service judges the whole file itself: `score`, with what it `told` beside that for the evidence.
    """

    scores: tuple[tuple[float, float], ...]
    not_applicable: int
    code: str = ""  # why there is nothing, where the pack broke
    score: float | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


class Run(Protocol):
    """One pack or service on its way through an upload."""

    standing: Standing

    def take(self, sample: Sample) -> None:
        """Look at one picture; raises nothing."""
        ...

    def finish(self) -> Seen:
        """What was seen; raises nothing."""
        ...


class AskedRun(Run, Protocol):
    """A service: it is asked at the end, when the looks before it have said what they saw."""

    def start(self) -> None:
        """Ask, without waiting for the answer."""
        ...


class PackRun:
    """One pack on its way through an upload; a pack that breaks says so in its row and disturbs no other."""

    def __init__(self, runner: ModelRunner, standing: Standing, tracks: Sequence[Track]) -> None:
        """`standing` has a pack."""
        assert standing.pack is not None
        self.standing, self.pack = standing, standing.pack
        self._batches = TimedBatches(runner, self.pack)
        self._spread = Spread(tracks, MOST_OF_TRACK)
        self._seconds: list[float] = []
        self._unusable = 0
        self._code = standing.code if standing.role == "refused" else ""

    def take(self, sample: Sample) -> None:
        """Look at one picture."""
        if self._code:
            return
        try:
            if self.pack.kind == "ai_image":
                self._add(sample.seconds, prepare(self.pack, sample.rgb, None))
                return
            for face in sample.faces:
                if not self._spread.wants(face.track, sample.seconds):
                    continue
                if usable(sample.rgb, face):
                    self._add(sample.seconds, prepare(self.pack, sample.rgb, face))
                else:
                    self._unusable += 1
        except (LookError, ModelError) as error:
            self._code = error.code

    def finish(self) -> Seen:
        """What was seen."""
        if not self._code:
            try:
                self._batches.flush()
            except (LookError, ModelError) as error:
                self._code = error.code
        if self._code:
            return Seen((), self._unusable, self._code)
        rows = self._batches.rows
        scores = fake_scores(self.pack, np.stack(rows)) if rows else np.zeros(0)
        return Seen(tuple(zip(self._seconds, map(float, scores), strict=True)), self._unusable)

    def _add(self, seconds: float, prepared: NDArray[np.float32]) -> None:
        self._seconds.append(seconds)
        self._batches.add(prepared)


class DetectorLook:
    """The packs of one kind; ends in the signal of that kind."""

    def __init__(
        self,
        kind: str,
        runner: ModelRunner,
        standings: Sequence[Standing],
        tracks: Sequence[Track],
        *,
        video: bool,
        services: Sequence[AskedRun] = (),
    ) -> None:
        """`standings` are those of this kind; none of them need be usable. `services` are asked when it is finished."""
        self.kind = kind
        self._video = video
        self._standings = standings
        self._runs: list[Run] = [PackRun(runner, one, tracks) for one in standings if one.pack is not None]
        self._runs += services
        self._services = services

    def take(self, sample: Sample) -> None:
        """See `Look.take`."""
        for run in self._runs:
            run.take(sample)

    def finish(self) -> Signal:
        """See `Look.finish`."""
        for service in self._services:
            service.start()
        seen = {run.standing.id: run.finish() for run in self._runs}
        # A manifest that cannot be read has no run, only a code.
        broken = {one.id: Seen((), 0, one.code) for one in self._standings if one.id not in seen}
        return judge(self.kind, self._standings, {**seen, **broken}, video=self._video)


def judge(kind: str, standings: Sequence[Standing], seen: Mapping[str, Seen], *, video: bool) -> Signal:
    """The signal of one kind from what each pack saw. Pure.

    Screened is a kind only by packs that may decide. One of those that broke is an error of the kind; one for which
    there was nothing to look at makes it not applicable; without any the kind is not screened, whatever the advisory
    packs say.
    """
    rows = [_row(one, seen[one.id], kind, video=video) for one in standings]
    deciding = [(one, row) for one, row in zip(standings, rows, strict=True) if one.role == "enforcing" or _lost(one)]
    if not deciding:
        code = "no_enforcing_pack" if standings else "no_pack"
        return Signal(kind, "not_installed", {"code": code, "packs": rows}, "packs")
    codes = [row["code"] for _, row in deciding if row["code"] not in ("", "not_applicable")]
    if codes:
        return Signal(kind, "error", {"code": codes[0], "packs": rows}, "packs")
    if any(row["code"] for _, row in deciding):
        return Signal(kind, "not_applicable", {"packs": rows}, "packs")
    calibrations = [one.calibration for one, _ in deciding if one.calibration is not None]
    value = {
        "p": round(aggregate.fuse([row["p"] for _, row in deciding]), 6),
        "review": round(aggregate.fuse([each.review for each in calibrations]), 6),
        "high": round(aggregate.fuse([each.high for each in calibrations]), 6),
        "packs": rows,
    }
    return Signal(kind, "measured", value, "packs")


def file_score(pack_kind: str, seen: Seen, *, video: bool) -> float | None:
    """The raw score of a whole file, None where there were too few usable faces."""
    if seen.score is not None:
        return seen.score
    frames = aggregate.per_frame(seen.scores)
    least = aggregate.LEAST_FACES if video and pack_kind == "face_forgery" else 1
    if len(seen.scores) < least:
        return None
    return aggregate.summarise(frames, UNCALIBRATED).score


def _lost(standing: Standing) -> bool:
    """A pack that was asked to decide and cannot be run: its absence must not pass for "none is installed"."""
    return standing.wanted and standing.role == "refused"


def _row(standing: Standing, seen: Seen, kind: str, *, video: bool) -> dict[str, Any]:
    calibration = standing.calibration
    row: dict[str, Any] = {
        "id": standing.id,
        "title": standing.title,
        "sha256": standing.sha256,
        "role": standing.role,
        "standing": standing.code,
        "code": seen.code,
        "faces": len(seen.scores),
        "not_applicable": seen.not_applicable,
    }
    if standing.service is not None:
        row["service"] = {"provider": standing.service.provider, **seen.told}
    if standing.evaluation is not None:
        worst = max(standing.evaluation.apcer.values(), default=math.nan)
        rates = {"bpcer": standing.evaluation.bpcer, "worst_apcer": worst, "auc": standing.evaluation.auc}
        row["measured"] = {name: round(rate, 4) if math.isfinite(rate) else None for name, rate in rates.items()}
    if seen.code:
        return row
    raw = file_score(kind, seen, video=video)
    if raw is None:
        return row | {"code": "not_applicable"}
    frames = [(seconds, _probability(calibration, score)) for seconds, score in aggregate.per_frame(seen.scores)]
    summary = aggregate.summarise(frames, calibration.review if calibration else UNCALIBRATED)
    row |= {
        "raw": round(raw, 6),
        "share": round(summary.share, 4),
        "run_frames": summary.run_frames,
        "run_seconds": round(summary.run_seconds, 2),
        "timeline": [[round(seconds, 2), round(value, 4)] for seconds, value in frames],
    }
    if calibration is not None:
        row |= {
            "p": round(_probability(calibration, raw), 6),
            "review": round(calibration.review, 6),
            "high": round(calibration.high, 6),
        }
    return row


def _probability(calibration: Calibration | None, raw: float) -> float:
    return raw if calibration is None else float(calibration.curve([raw])[0])


class TimedBatches(Batches):
    """As `Batches`, but a batch that takes longer than the manifest allows counts as hung."""

    def __init__(self, runner: ModelRunner, pack: Pack) -> None:
        super().__init__(runner, pack.model, pack.image.input, pack.output, pack.batch)
        self.pack = pack

    def _answers(self, inputs: Mapping[str, NDArray[np.float32]]) -> Mapping[str, NDArray[Any]]:
        outcome: list[Mapping[str, NDArray[Any]] | BaseException] = []

        def run() -> None:
            try:
                outcome.append(super(TimedBatches, self)._answers(inputs))
            except BaseException as error:
                outcome.append(error)

        # A run cannot be called back; its thread is left to end by itself and keeps no process alive.
        thread = threading.Thread(target=run, name=f"pack {self._model}", daemon=True)
        thread.start()
        thread.join(self.pack.seconds)
        if not outcome:
            raise LookError("timeout")
        found = outcome[0]
        if isinstance(found, BaseException):
            raise found
        return found


def _cut(pack: Pack, face: SampledFace) -> align.Affine:
    side, box = pack.image.side, face.box.astype(np.float64)
    centre = box[:2] + box[2:] / 2
    if pack.image.framing == "points":
        return align.similarity(align.five_points(face.landmarks), np.array(pack.points) * side)
    if pack.image.framing == "face":
        return align.square(centre, pack.crop * float(box[2:].max()), 0.0, side)
    scale = side / (pack.crop * box[2:])  # stretched to the square
    return np.array(
        [[scale[0], 0.0, side / 2 - scale[0] * centre[0]], [0.0, scale[1], side / 2 - scale[1] * centre[1]]]
    )


def _whole(pack: Pack, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle square after the shorter side was brought to `resize` pixels, or all of it; the rest is black."""
    side = pack.image.side
    height, width = rgb.shape[:2]
    letterbox = pack.image.framing == "letterbox"
    if pack.resize or letterbox:
        scale = side / max(height, width) if letterbox else pack.resize / min(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = np.asarray(
            cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
        )
        height, width = rgb.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    part = rgb[top : top + side, left : left + side]
    out = np.zeros((side, side, 3), np.uint8)
    y, x = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    out[y : y + part.shape[0], x : x + part.shape[1]] = part
    return out
