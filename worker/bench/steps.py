"""What the host does round neural inference for one 1080p frame with one face: CPU milliseconds by step.

No model is run and none is needed: the answers are made up, so what is timed is cutting, converting and pasting only.
"""

from __future__ import annotations

import statistics
import time
from typing import Final

import cv2
import numpy as np

from worker.faces.neural.detectors import PointDetector
from worker.faces.neural.embeddings import ArcFace
from worker.faces.neural.landmarks import Fan2d
from worker.faces.neural.paste import Paster
from worker.faces.neural.points import five_of
from worker.faces.neural.swappers import Swapper
from worker.inference import registry
from worker.media.planes import Planes

_SIZE: Final = (1920, 1080)
_FACE: Final = (840.0, 390.0, 240.0, 300.0)  # x, y, width, height in pixels
_WARM_UP: Final = 10


def host_milliseconds(frames: int, swapper: str = "hyperswap_1a_256") -> dict[str, float]:
    """Median CPU milliseconds of this thread per frame and step, and their sum as "total"."""
    cards = {name: known.card for name, known in registry.operator_models().items()}
    detector, fan = PointDetector(cards["yoloface_8n"]), Fan2d(cards["2dfan4"])
    describer, swap = ArcFace(cards["arcface_w600k_r50"]), Swapper(cards[swapper])
    paster = Paster(swap.side)
    donor = np.ones(swap.card.contract.inputs["source"], np.float32)
    planes = _picture()
    detected, located, embedded = _answers()
    spent: dict[str, list[float]] = {}
    last = 0.0

    def lap(step: str) -> None:
        nonlocal last
        now = time.thread_time()
        spent.setdefault(step, []).append((now - last) * 1e3)
        last = now

    for _ in range(frames + _WARM_UP):
        last = time.thread_time()
        _, scale = detector.prepare(planes)
        lap("detector input")
        found = detector.decode(detected, scale)[0]
        lap("detector decode")
        _, placed = fan.prepare(planes, found)
        lap("landmark crop")
        landmarks = fan.decode(located, placed).points
        five = five_of(landmarks)
        lap("landmark decode")
        describer.prepare(planes, five)
        lap("embedding crop")
        describer.decode(embedded)
        lap("embedding decode")
        (tile,), matrix = swap.tiles(planes, five)
        inputs = swap.prepare(tile, donor)
        lap("swap crop")
        answer = {swap.image.output: inputs[swap.image.input].copy()}
        last = time.thread_time()  # making the answer up is not the host's work
        square = swap.decode([answer])
        lap("swap decode")
        paster.paste(planes, matrix, square)
        lap("paste")
    result = {step: round(statistics.median(values[_WARM_UP:]), 3) for step, values in spent.items()}
    return {**result, "total": round(sum(result.values()), 3)}


def _picture() -> Planes:
    planes = Planes(_SIZE)
    noise = np.random.default_rng(0).integers(20, 235, (90, 160, 3), np.uint8)
    planes.paste(planes.whole, np.asarray(cv2.resize(noise, _SIZE, interpolation=cv2.INTER_CUBIC), np.uint8))
    return planes


def _answers() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What detector, landmarks and embedding answer: one face at `_FACE`, with its 68 points on a plain grid."""
    boxes, scores = np.zeros((1, 128, 4), np.float32), np.zeros((1, 128), np.float32)
    boxes[0, 0] = np.array(_FACE) * 640 / _SIZE[0]
    scores[0, 0] = 0.9
    points = np.full((1, 68, 3), 32, np.float32)
    left, right = (25.0, 27.0), (39.0, 27.0)
    points[0, 36:42, :2], points[0, 42:48, :2] = left, right
    points[0, 30, :2], points[0, 48, :2], points[0, 54, :2] = (32.0, 34.0), (26.5, 42.0), (37.5, 42.0)
    detected = {"boxes": boxes, "scores": scores, "points": np.zeros((1, 128, 5, 2), np.float32)}
    located = {"landmarks_xyscore": points, "peaks": np.ones((1, 68), np.float32)}
    return detected, located, {"output": np.ones((1, 512), np.float32)}
