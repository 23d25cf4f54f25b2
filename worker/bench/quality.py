"""What a swap does to sample pictures, in numbers of the quality report and of the accuracy gates, by precision."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from watermark.bench.quality import psnr
from worker.bench.report import Progress, Report, Table
from worker.bench.steadiness import add_seams, add_steadiness
from worker.bench.workspace import Workspace
from worker.faces.analyse import analyse_image
from worker.faces.landmarks import FACE_SCORE, FaceMesh
from worker.faces.neural.donors import DonorPhoto, identity_of
from worker.faces.neural.embeddings import ArcFace, apart, unit
from worker.faces.neural.paste import Paster
from worker.faces.neural.points import five_of
from worker.faces.neural.swappers import Swapper
from worker.faces.quality import judge, sharpness
from worker.faces.swap import MeshSwapper, SwapOptions, prepare_source
from worker.faces.topology import TOPOLOGY
from worker.faces.types import Face, FaceError, Floats, ModelRunner, Rgb
from worker.inference import accuracy
from worker.inference.devices import ProviderPolicy
from worker.inference.precision import POLICY_PATH, PrecisionPolicy, read_policies
from worker.inference.registry import Precision
from worker.inference.sessions import LocalRunner
from worker.inference.types import ModelError

BUILT_IN: Final = "built-in"
PRECISIONS: Final[tuple[Precision, ...]] = ("fp32", "fp16", "int8")
_OUTLINE_WIDTH: Final = 5
_NONE: Final = "{swapper}: no model has a proven {precision} file; see `manage.py models quantise`"
_DEVICES: Final = ("cpu", "cuda", "tensorrt")
_METRICS: Final = (
    ("distance to source", "to_source"),
    ("to the target before", "to_target"),
    ("both people apart", "apart"),
    ("landmark drift p95 %", "drift"),
    ("PSNR outside dB", "outside"),
    ("outline step p95", "outline"),
    ("edge step p95", "edge"),
    ("sharpness", "sharpness"),
    ("yaw gap °", "yaw_gap"),
)


@dataclass(frozen=True)
class Swapped:
    """One picture that got the face of another: `picture` uint8 [H, W, 3], `landmarks` of the face before and after.

    Distances are those of the swap's own descriptor. `drift`: 95th percentile of how far landmarks moved, in per cent
    of the face; `outside`: PSNR in dB outside the face's outline; `outline` and `edge`: 95th percentile of the change,
    0 to 255, on the face's outline and where the changed region ends: a step there is a seam, unless it is where hair
    or a hand hides the face. `warnings` as in `Quality`.
    """

    name: str
    picture: Rgb
    landmarks: Floats
    descriptor: Floats
    to_source: float
    to_target: float
    apart: float
    drift: float
    outside: float
    outline: float
    edge: float
    sharpness: float
    yaw_gap: float
    warnings: tuple[str, ...]


def bench_quality(
    space: Workspace,
    pictures: Mapping[str, Rgb],
    *,
    precisions: Sequence[Precision] = PRECISIONS,
    progress: Progress,
) -> Report:
    """Give every picture (uint8 [H, W, 3] RGB) the face of the next by every swapper there is, and judge.

    Raises ModelError; ValueError if fewer than two pictures show a face.
    """
    report = Report("quality", unit="descriptor distance, median")
    precisions = ("fp32", *(one for one in precisions if one != "fp32"))  # what the others are compared with
    swappers = [BUILT_IN, *(name for name, card in space.models.extra.items() if card.role == "face_swapper")]
    steps = len(swappers) * len(precisions)
    for number, swapper in enumerate(swappers):
        full: list[Swapped] = []
        lines: list[tuple[str | float | None, ...]] = []
        for place, precision in enumerate(precisions):
            progress(f"{swapper} in {precision}", (number * len(precisions) + place) / steps)
            if precision != "fp32" and not list(space.models_dir.glob(f"*.{precision}.*.onnx")):
                report.notes.append(_NONE.format(swapper=swapper, precision=precision))
                continue
            runner = LocalRunner(
                space.models_dir,
                providers=ProviderPolicy.parse(space.providers),
                models=space.models,
                precisions=_wanting(precision),
            )
            refused: dict[str, str] = {}
            found = list(_swapped(runner, space, swapper, pictures=pictures, refused=refused))
            if not found:
                raise ValueError(f"No picture could be swapped ({', '.join(sorted(set(refused.values())))}).")
            lowered = [model.name for model in runner.loaded() if model.precision == precision]
            if precision == "fp32":
                full = found
                report.tables.append(_pictures_table(swapper, found))
                report.notes += [f"{swapper}, {one.name}: {', '.join(one.warnings)}" for one in found if one.warnings]
                report.notes += [f"{swapper}, {name}: refused, {code}" for name, code in refused.items()]
            elif not lowered:
                report.notes.append(_NONE.format(swapper=swapper, precision=precision))
                continue
            lines.append((precision, str(len(lowered)), *_medians(found), *_beside(full, found)))
        report.stages[swapper] = {title: value for (title, _), value in zip(_METRICS[:3], _medians(full), strict=False)}
        columns = ("precision", "models", *(title for title, _ in _METRICS), "drift to fp32 %", "PSNR to fp32 dB")
        report.tables.append(Table(f"{swapper}: medians by precision", columns, tuple(lines)))
    progress("a film, and seams", 1.0)
    runner = LocalRunner(space.models_dir, providers=ProviderPolicy.parse(space.providers))
    donor, target = list(pictures.values())[:2]
    add_steadiness(report, runner, donor, target)
    add_seams(report, runner, pictures)
    return report


def _swapped(
    runner: LocalRunner,
    space: Workspace,
    swapper: str,
    *,
    pictures: Mapping[str, Rgb],
    refused: dict[str, str],
) -> Iterator[Swapped]:
    """Every picture that can be swapped; the others' codes come into `refused`."""
    known = [
        (name, rgb, faces[0]) for name, rgb in pictures.items() if (faces := analyse_image(rgb, runner, min_size=64))
    ]
    if len(known) < 2:
        raise ValueError("At least two pictures with a face are needed.")
    for index, (name, rgb, face) in enumerate(known):
        source_name, source, donor = known[(index + 1) % len(known)]
        label = f"{source_name} on {name}"
        try:
            if swapper == BUILT_IN:
                yield _by_mesh(runner, label, rgb, face, source=source, donor=donor)
            else:
                yield _by_model(runner, space, swapper, label=label, rgb=rgb, face=face, source=source, donor=donor)
        except FaceError as error:
            refused[label] = error.code


def _by_mesh(runner: ModelRunner, label: str, rgb: Rgb, face: Face, *, source: Rgb, donor: Face) -> Swapped:
    prepared = prepare_source(source, donor)
    after = rgb.copy()
    done = MeshSwapper([prepared], SwapOptions(smoothing=0.0)).swap(after, face.landmarks)
    if prepared.descriptor is None:
        raise ModelError("engine_failed", "The analysis gave no descriptor.")
    judged = judge(
        runner,
        rgb,
        after,
        face.landmarks,
        prepared.descriptor,
        source_sharpness=prepared.sharpness,
        yaw_gap=done.yaw_gap,
    )
    return Swapped(
        name=label,
        picture=after,
        descriptor=prepared.descriptor,
        to_source=judged.distance_to_source,
        to_target=judged.distance_to_target,
        apart=judged.target_source_before,
        sharpness=judged.sharpness,
        yaw_gap=judged.yaw_gap,
        warnings=judged.warnings,
        **_seen(runner, rgb, after, face.landmarks),
    )


def _by_model(
    runner: ModelRunner, space: Workspace, swapper: str, *, label: str, rgb: Rgb, face: Face, source: Rgb, donor: Face
) -> Swapped:
    card = space.models.card(swapper)
    swap, describer = Swapper(card), ArcFace(space.models.card(card.contract.identity))

    def described(picture: Rgb, landmarks: Floats) -> Floats:
        inputs = describer.prepare(picture, five_of(landmarks))
        return describer.decode_raw(runner.run(describer.card.name, inputs))

    def describe(picture: Rgb, landmarks: Floats) -> Floats:
        return unit(described(picture, landmarks))

    photo = DonorPhoto(source, five_of(donor.landmarks), described(source, donor.landmarks))
    known = identity_of([photo], swapper, runner, space.models)
    identity = known.embedding
    tiles, matrix = swap.tiles(rgb, five_of(face.landmarks))
    square = swap.decode([runner.run(swapper, swap.prepare(tile, known.source)) for tile in tiles])
    after = rgb.copy()
    Paster(swap.side).paste(after, matrix, square)
    made, target = describe(after, face.landmarks), describe(rgb, face.landmarks)
    return Swapped(
        name=label,
        picture=after,
        descriptor=made,
        to_source=apart(made, identity),
        to_target=apart(made, target),
        apart=apart(target, identity),
        sharpness=sharpness(after, face.landmarks),
        yaw_gap=abs(face.pose.yaw - donor.pose.yaw),
        warnings=(),
        **_seen(runner, rgb, after, face.landmarks),
    )


def _seen(runner: ModelRunner, before: Rgb, after: Rgb, landmarks: Floats) -> dict[str, Any]:
    """What can be seen of a swap whichever it was: landmarks, `drift`, `outside`, `edge`."""
    located, score = FaceMesh(runner).locate(after, landmarks)
    drift = _drift(landmarks, located) if score >= FACE_SCORE else float("nan")
    outline = np.zeros(before.shape[:2], np.uint8)
    oval = np.round(landmarks[TOPOLOGY.oval, :2]).astype(np.int32)
    cv2.fillPoly(outline, [oval], 1)
    ring = np.zeros_like(outline)
    cv2.polylines(ring, [oval], True, 1, _OUTLINE_WIDTH)
    outside = cv2.dilate(outline, np.ones((_OUTLINE_WIDTH, _OUTLINE_WIDTH), np.uint8)) == 0
    return {
        "landmarks": located,
        "drift": drift,
        "outside": psnr(before[outside], after[outside]),
        "outline": float(np.percentile(_change(before, after)[ring > 0], 95)),
        "edge": edge_step(before, after),
    }


def edge_step(before: Rgb, after: Rgb) -> float:
    """95th percentile of the change, 0 to 255, on the outermost two pixels of the region that changed; 0 for none.

    A paste that fades out ends at nearly nothing; one that stops short leaves a line of just that step.
    """
    change = _change(before, after)
    changed = (change > 0).astype(np.uint8)
    # Single pixels that did not change by chance are no edge, and what shows through a hole is meant to.
    whole = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    outlines, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return 0.0
    longest = max(outlines, key=len)
    ring = np.zeros(changed.shape, np.uint8)
    cv2.drawContours(ring, [longest], -1, 1, 3)
    return float(np.percentile(change[(ring > 0) & (whole > 0)], 95))


def _change(before: Rgb, after: Rgb) -> NDArray[np.int16]:
    """The largest difference of a pixel's colours, int16 [H, W]."""
    return np.asarray(np.abs(after.astype(np.int16) - before).max(axis=2), np.int16)


def _drift(there: Floats, now: Floats) -> float:
    reader = accuracy.LandmarkReader("points", outline=468)
    return accuracy.measure(reader, {"points": there[None]}, {"points": now[None]}).get("drift_p95_percent", np.nan)


def _beside(full: Sequence[Swapped], found: Sequence[Swapped]) -> tuple[float | None, float | None]:
    """Against float32: how far landmarks of the results moved at worst, and the least PSNR of the results."""
    if not full or full is found or full[0] is found[0]:
        return None, None
    drifts, ratios = [], []
    known = {one.name: one for one in full}
    for other in found:
        if (one := known.get(other.name)) is None:
            continue
        drifts.append(_drift(one.landmarks, other.landmarks))
        pictures = ({"picture": each.picture[None].astype(np.float32)} for each in (one, other))
        ratios.append(accuracy.measure(accuracy.ImageReader("picture", high=255.0), *pictures)["psnr_worst_db"])
    if not ratios:
        return None, None
    return round(max(drifts), 3), round(min(ratios), 2)


def _pictures_table(swapper: str, found: Sequence[Swapped]) -> Table:
    columns = ("picture", *(title for title, _ in _METRICS))
    lines = tuple((one.name, *(round(getattr(one, key), 3) for _, key in _METRICS)) for one in found)
    return Table(f"{swapper}, fp32", columns, lines)


def _medians(found: Sequence[Swapped]) -> list[float]:
    return [round(statistics.median(getattr(one, key) for one in found), 3) for _, key in _METRICS]


def _wanting(precision: Precision) -> Mapping[str, PrecisionPolicy]:
    """The shipped policies, each model wanted in this precision on every device, where it is proven there."""
    wanted = MappingProxyType(dict.fromkeys(_DEVICES, precision))
    return {name: replace(policy, wanted=wanted) for name, policy in read_policies(POLICY_PATH).items()}
