"""The job description travels as JSON and refuses what cannot be carried out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.spec import JobSpec, Label, SourcePhoto, SpecError, Swap

HASH = "ab" * 32
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


def spec(**changes: object) -> JobSpec:
    base = JobSpec(
        job_id="job_1",
        kind="photo",
        target_path=Path("target.jpg"),
        target_sha256=HASH,
        analysis_path=Path("analysis"),
        output_path=Path("out.jpg"),
        output_mime="image/jpeg",
        swaps=(Swap(0, (SourcePhoto(Path("source.jpg"), HASH),)),),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@given(
    job_id=TEXT,
    name=TEXT,
    face=st.integers(0, 50),
    target=st.integers(0, 50),
    label=st.none() | st.builds(Label, text=TEXT),
    crf=st.integers(0, 51),
)
def test_a_specification_survives_the_journey_as_json(
    job_id: str, name: str, face: int, target: int, label: Label | None, crf: int
) -> None:
    sent = spec(job_id=job_id, label=label, crf=crf, swaps=(Swap(target, (SourcePhoto(Path(name), HASH, face),)),))
    assert JobSpec.from_json(sent.to_json()) == sent


@pytest.mark.parametrize(
    "changes",
    [
        {"output_mime": "video/mp4"},
        {"kind": "video"},
        {"swaps": ()},
        {"swaps": (Swap(1, (SourcePhoto(Path("a"), HASH),)), Swap(1, (SourcePhoto(Path("b"), HASH),)))},
        {"crf": 99},
        {"jpeg_quality": 0},
    ],
)
def test_what_cannot_be_carried_out_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        spec(**changes)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"job_id": 1}', "null", '{"swaps": 3}'])
def test_what_is_not_a_specification_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        JobSpec.from_json(text)
