"""Which face is meant: named, the only one, or nobody's guess."""

from __future__ import annotations

from typing import Any

import pytest

from webapp.jobs.errors import JobsError
from webapp.jobs.face_choice import chosen_face
from webapp.jobs.models import Asset

pytestmark = pytest.mark.django_db

TWO = [{"index": 3, "size": 120.0}, {"index": 5, "size": 40.0}]


def refused(asset: Asset, face: int | None) -> str:
    with pytest.raises(JobsError) as error:
        chosen_face(asset, face)
    assert "nothing was made" in error.value.message or asset.state == "refused"
    return error.value.code


def test_the_only_face_need_not_be_named(stage: Any) -> None:
    assert chosen_face(stage.ready("target", faces=TWO[:1]), None) == 3


def test_of_two_faces_none_is_taken_in_silence(stage: Any) -> None:
    asset = stage.ready("target", faces=TWO)
    assert chosen_face(asset, 3) == 3
    assert refused(asset, None) == "face_choice_required"
    assert refused(asset, 0) == "face_unknown"


def test_a_face_too_small_to_be_replaced_cannot_be_chosen_beside_a_large_one(stage: Any) -> None:
    assert refused(stage.ready("target", faces=TWO), 5) == "face_too_small"


def test_before_the_check_a_face_must_be_named_and_after_a_refusal_none_can_be(stage: Any) -> None:
    asset = stage.upload("target")
    assert chosen_face(asset, 1) == 1
    assert refused(asset, None) == "asset_not_ready"
    assert refused(stage.ready("target", state="refused", failure_message="No face."), 0) == "asset_refused"
    assert refused(stage.ready("target", faces=[]), None) == "face_unknown"
