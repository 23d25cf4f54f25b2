"""One face throughout, and whose: judged on made-up descriptors, where every distance is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.worker.liveness.test_judge import AT_REST
from worker.gate.live.liveness_identity import judge_identity
from worker.limits import IDENTITY_PASS, IDENTITY_REVIEW

Vector = NDArray[np.float64]


def at(distance: float, axis: int = 0) -> Vector:
    """A descriptor so far from the clip's person."""
    vector = np.zeros(128)
    vector[axis] = distance
    return vector


def clip(*others: tuple[float, float], frames: int = 10) -> list[tuple[object, Vector]]:
    """Frames of the person at the origin; `others` are (yaw, distance) of frames that differ."""
    faces = [(AT_REST, at(0.0)) for _ in range(frames)]
    return faces + [(replace(AT_REST, yaw=yaw), at(distance, 1)) for yaw, distance in others]


@pytest.mark.parametrize(
    ("distance", "codes"),
    [
        (0.0, ()),
        (IDENTITY_PASS, ()),
        (IDENTITY_PASS + 0.01, ("identity_unsure",)),
        (IDENTITY_REVIEW, ("identity_unsure",)),
        (IDENTITY_REVIEW + 0.01, ("identity_mismatch",)),
    ],
)
def test_the_distance_to_the_source_decides(distance: float, codes: tuple[str, ...]) -> None:
    found = judge_identity(clip(), [at(distance)])  # type: ignore[arg-type]
    assert found.codes == codes
    assert found.source_distance == pytest.approx(distance)


def test_of_faces_that_all_have_to_be_the_persons_the_farthest_counts() -> None:
    for distances, codes in (
        ((0.3, 0.2), ()),
        ((0.3, 0.5), ("identity_unsure",)),
        ((0.3, 0.9), ("identity_mismatch",)),
    ):
        found = judge_identity(clip(), [at(one) for one in distances], every=True)  # type: ignore[arg-type]
        assert found.codes == codes
        assert found.source_distance == pytest.approx(max(distances), abs=0.02)
    unreadable = [at(0.1), np.full(128, np.nan)]
    assert judge_identity(clip(), unreadable, every=True).codes == ("no_reference",)  # type: ignore[arg-type]


def test_the_nearest_of_several_source_photos_counts() -> None:
    assert judge_identity(clip(), [at(0.9), at(0.3), at(0.7)]).codes == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("yaw", "distance", "same"), [(0, 0.44, True), (0, 0.46, False), (30, 0.55, True), (30, 0.61, False)]
)
def test_another_face_in_between_is_seen(yaw: float, distance: float, same: bool) -> None:
    found = judge_identity(clip((yaw, distance)), [at(0.0)])  # type: ignore[arg-type]
    assert found.codes == (() if same else ("changed_person",))


def test_without_a_photo_a_person_looks() -> None:
    assert judge_identity(clip(), []).codes == ("no_reference",)  # type: ignore[arg-type]
    assert judge_identity(clip(), [np.full(128, np.nan), np.zeros(512)]).codes == ("no_reference",)  # type: ignore[arg-type]


def test_too_few_frames_of_the_front_decide_nothing() -> None:
    assert judge_identity(clip(frames=3), [at(0.0)]).codes == ("face_lost",)  # type: ignore[arg-type]
