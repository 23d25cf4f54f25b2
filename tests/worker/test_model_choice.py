"""Which models carry a job out: what the operator installed first, the built-in ones where there is nothing better."""

from __future__ import annotations

import pytest

from worker.model_choice import BUILTIN_DETECTOR, ModelsMissingError, all_of, neural_set

NEEDED = {"inswapper_128", "arcface_w600k_r50"}


@pytest.mark.parametrize(
    ("more", "detector", "landmarks"),
    [
        ((), BUILTIN_DETECTOR, "face_mesh"),
        (("yunet",), "yunet", "face_mesh"),
        (("retinaface_10g", "scrfd_2.5g", "peppa_wutz"), "scrfd_2.5g", "peppa_wutz"),
        (("yunet", "yoloface_8n", "2d106det", "peppa_wutz", "2dfan4"), "yoloface_8n", "2dfan4"),
        (("yunet", "fan_68_5"), "yunet", "face_mesh"),  # what never looks at the picture is no choice
        (("2d106det", "fan_68_5"), BUILTIN_DETECTOR, "2d106det"),
    ],
)
def test_a_set_is_made_of_what_is_there(more, detector, landmarks):
    found = neural_set("inswapper_128", "", NEEDED | set(more))
    assert (found.detector, found.landmarks, found.embedding) == (detector, landmarks, "arcface_w600k_r50")


def test_an_embedding_is_the_swappers_own_and_no_other_stands_in():
    with pytest.raises(ModelsMissingError, match="arcface_w600k_r50"):
        neural_set("inswapper_128", "", {"inswapper_128", "auraface_v1", "yunet", "2dfan4"})


def test_all_models_of_a_role_come_best_first_and_the_built_in_last():
    assert all_of("face_detector", {"retinaface_10g", "yunet", "2dfan4"}) == ("yunet", "retinaface_10g", "blazeface")
    assert all_of("face_embedding", {"auraface_v1"}) == ("auraface_v1", "face_descriptor")
    assert all_of("face_landmarks", ()) == ("face_mesh",)
