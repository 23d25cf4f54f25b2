"""The job description travels as JSON and refuses what cannot be carried out."""

from __future__ import annotations

import dataclasses
import math
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
        {"pixel_boost": 2},  # the built-in swapper has no size of its own
        {"swapper": "inswapper_128", "pixel_boost": 0},
        {"swapper": "inswapper_128", "pixel_boost": 5},
    ],
)
def test_what_cannot_be_carried_out_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        spec(**changes)
    assert spec(swapper="inswapper_128", pixel_boost=4).pixel_boost == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"codec": "vp9"},
        {"preset": "veryfast"},
        {"hardware": "auto"},
        {"codec": "av1", "output_mime": "video/quicktime"},
        {"scale": 3.0},
        {"scale": math.nan},
        {"height": 20},
        {"height": 720, "scale": 0.5},
        {"fps": 0.0},
        {"fps": 500.0},
        {"trim_start": -1.0},
        {"trim_start": math.nan},
        {"trim_start": 5.0, "trim_end": 5.0},
        {"trim_end": math.inf},
    ],
)
def test_a_video_that_cannot_be_written_so_is_refused(changes: dict[str, object]) -> None:
    film = {"kind": "video", "output_mime": "video/mp4"}
    fine = spec(**film, codec="hevc", preset="slow", height=720, fps=24.0, trim_start=1.0, trim_end=2.0)
    assert JobSpec.from_json(fine.to_json()) == fine
    with pytest.raises(SpecError):
        spec(**{**film, **changes})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"job_id": 1}', "null", '{"swaps": 3}'])
def test_what_is_not_a_specification_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        JobSpec.from_json(text)
