"""Analyses of pictures as the pipeline would store them, and square frames aligned as FFHQ's are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.faces.align import five_points
from worker.faces.landmarks import box_of
from worker.media import image
from worker.pipeline.analysed import AnalysedFrame, AnalysisSummary, FrameFace
from worker.pipeline.analysis import Analysis, AnalysisWriter

Rgb = NDArray[np.uint8]
Points = NDArray[np.float32]


class NoOutputs:
    """No result is ours."""

    def by_mark(self, mark_id: bytes) -> dict[str, str]:
        return {}

    def by_manifest(self, label: str) -> dict[str, str]:
        return {}


def load(path: Path) -> Rgb:
    """A picture of the tests' own, which no child need guard against."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.ascontiguousarray(bgr[..., ::-1])


def analysis(
    folder: Path, size: tuple[int, int], frames: Sequence[tuple[float, Sequence[Points]]], kind: str = "photo"
) -> Analysis:
    """The stored analysis of a file of `size` (width, height): per frame seconds and landmarks of its faces."""
    path = folder / f"analysis-{len(list(folder.iterdir()))}"
    writer = AnalysisWriter(path)
    for index, (seconds, faces) in enumerate(frames):
        seen = tuple(FrameFace(number, 1.0, box_of(points), points) for number, points in enumerate(faces))
        writer.add(AnalysedFrame(index, seconds, seen))
    writer.finish(AnalysisSummary(kind, "test", size[0], size[1], len(frames), frames[-1][0], ()))
    return Analysis.load(path)


def saved(rgb: Rgb, path: Path, quality: int = 85) -> Path:
    image.write(np.ascontiguousarray(rgb), path, "image/jpeg", quality=quality)
    return path


def ffhq_matrix(landmarks: Points, side: int) -> NDArray[np.float64]:
    """From the picture to the square that FFHQ's authors cut round a face (NVlabs/ffhq-dataset, its description).

    Twice the distance of the eyes, or 1.8 times that from eyes to mouth, to each side of a centre that lies a tenth of
    the latter below the eyes, turned so that eyes and mouth lie level.
    """
    right, left, _, mouth_right, mouth_left = five_points(landmarks).astype(np.float64)
    eyes, mouth = (right + left) / 2, (mouth_right + mouth_left) / 2
    down = mouth - eyes
    across = left - right + np.array([down[1], -down[0]])
    across *= max(2.0 * np.hypot(*(left - right)), 1.8 * np.hypot(*down)) / np.hypot(*across)
    below = np.array([-across[1], across[0]])
    centre = eyes + 0.1 * down
    corners = np.array([centre - across - below, centre + across - below, centre - across + below], np.float32)
    return cv2.getAffineTransform(corners, np.array([[0, 0], [side, 0], [0, side]], np.float32))


def ffhq_frame(rgb: Rgb, landmarks: Points, side: int = 512) -> Rgb:
    """The picture cut so."""
    return np.asarray(
        cv2.warpAffine(rgb, ffhq_matrix(landmarks, side), (side, side), borderMode=cv2.BORDER_REFLECT), np.uint8
    )
