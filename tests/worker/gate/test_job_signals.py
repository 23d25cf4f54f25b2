"""The gate's questions about a job of several replacements: the worst of them speaks for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worker.gate.measure import Chosen, Confirmed, Pair, measure_job
from worker.gate.signals import Signal
from worker.pipeline.analysed import AnalysedFrame, AnalysisSummary, FrameFace, Track
from worker.pipeline.analysis import Analysis, AnalysisWriter

BOX = (10.0, 10.0, 90.0, 90.0)


def head(yaw: float) -> np.ndarray:
    """Landmarks of a head turned by so many degrees; only temples, forehead and chin tell the pose."""
    turn = np.radians(yaw)
    points = np.zeros((478, 3), np.float32)
    points[234], points[454] = (50.0, 50.0, 0.0), (50.0 + 40 * np.cos(turn), 50.0, 40 * np.sin(turn))
    points[10], points[152] = (60.0, 10.0, 0.0), (60.0, 90.0, 12.0)
    return points


def chosen(folder: Path, name: str, face: int, *looks: tuple[float, list[float]]) -> Chosen:
    """The face number `face` of a file whose frames each show one face per look: (yaw, per frame) and a descriptor."""
    path = folder / name
    writer = AnalysisWriter(path)
    tracks = []
    frames = max(len(yaws) for _, yaws in looks)
    for index in range(frames):
        faces = [
            FrameFace(track, 1.0, np.asarray(BOX, np.float32), head(yaws[index]))
            for track, (_, yaws) in enumerate(looks)
        ]
        writer.add(AnalysedFrame(index, index / 25, tuple(faces)))
    for track, (person, yaws) in enumerate(looks):
        descriptor = (person, *[0.0] * 127)
        tracks.append(Track(track, 0.0, 0.0, len(yaws), 0, 0.0, BOX, 90.0, yaws[0], descriptor))
    writer.finish(AnalysisSummary("photo", "builtin", 100, 100, frames, 0.0, tuple(tracks)))
    return Chosen(name, face, Analysis.load(path))


def signals_of(pairs: list[Pair]) -> dict[str, Signal]:
    return {signal.kind: signal for signal in measure_job(pairs, ["L1"] * 4, ["evaluation"] * 3, gaps=frozenset())}


def test_one_stranger_among_the_photos_of_any_pair_is_what_the_gate_sees(tmp_path: Path) -> None:
    scene = [(0.0, [0.0]), (0.0, [0.0])]
    targets = [chosen(tmp_path, f"target-{face}", face, *scene) for face in (0, 1)]
    ada, ben, stranger = (chosen(tmp_path, name, 0, (who, [0.0])) for name, who in (("a", 0.0), ("b", 5.0), ("c", 5.7)))
    good = Pair([ada], targets[0], Confirmed((("a", 0),)))
    bad = Pair([ben, stranger], targets[1], Confirmed((("b", 0),)))
    found = signals_of([good, bad])["identity"]
    assert found.value["worst"] == pytest.approx(0.7, abs=1e-3)
    assert found.value["distances"] == pytest.approx([0.0, 0.0, 0.7], abs=1e-3)  # each against their own donor
    unknown = Pair([stranger], targets[1], Confirmed((("b", 0),)))
    assert signals_of([good, unknown])["identity"].status == "error"


@pytest.mark.parametrize("order", [1, -1])
def test_a_long_fitting_pair_does_not_hide_a_short_one_that_looks_away(tmp_path: Path, order: int) -> None:
    scene = [(0.0, [0.0] * 40), (0.0, [60.0] * 40)]
    targets = [chosen(tmp_path, f"target-{face}", face, *scene) for face in (0, 1)]
    donor = chosen(tmp_path, "a", 0, (0.0, [0.0]))
    pairs = [Pair([donor], target, Confirmed((("a", 0),))) for target in targets][::order]
    found = signals_of(pairs)["pose"]
    assert (found.value["frames"], found.value["turned"]) == (40, 40)
    assert found.value["widest"] == pytest.approx(60.0, abs=1.0)
    assert signals_of([pair for pair in pairs if pair.target.face == 0])["pose"].value["turned"] == 0
