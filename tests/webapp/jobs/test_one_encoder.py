"""A job's video is written by one encoder, whoever renders its segments: parts of two could not be joined.

No device is here: what one would write is what `device_header` is made to say.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from webapp.jobs import leases, segments
from webapp.jobs.models import Job
from worker import rendering
from worker.inference.registry import BUILTIN
from worker.media.errors import MediaError
from worker.pipeline.analysed import AnalysedFrame, AnalysisSummary
from worker.pipeline.analysis import AnalysisWriter
from worker.spec import JobSpec, SourcePhoto, Swap

pytestmark = pytest.mark.django_db
ONE, OTHER = b"one kind of device", b"another kind"


@pytest.fixture
def job(stage: Any) -> Job:
    made: Job = stage.run(stage.screened(stage.submit()))
    return made


@pytest.fixture
def plan(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Plan the job as a worker would whose device writes `header`, if it has one that may be used."""
    path = tmp_path / "analysis"
    writer = AnalysisWriter(path)
    for index in range(100):
        writer.add(AnalysedFrame(index, index / 25, ()))
    writer.finish(AnalysisSummary("video", "builtin", 64, 64, 100, 4.0, (), ()))

    def planned(header: bytes | None = None, *, allowed: bool = True, **more: Any) -> Any:
        monkeypatch.setattr(rendering.devices, "device_header", lambda spec: header)
        spec = JobSpec(
            job_id=job.pk,
            kind="video",
            target_path=tmp_path / "target",
            target_sha256="0" * 64,
            analysis_path=path,
            output_path=tmp_path / "out.mp4",
            output_mime="video/mp4",
            swaps=(Swap(0, (SourcePhoto(tmp_path / "source", "0" * 64),)),),
            hardware="decode" if allowed else "off",
        )
        return rendering._Work.of(job.pk, spec, b"pattern", BUILTIN, **more)

    return planned


def begin(job: Job, work: Any) -> None:
    rows = [segments.Planned(each.number, each.first, each.last, work.addresses[each.number]) for each in work.segments]
    assert segments.lay_out(job.pk, "worker", rows)


def helps(job: Job, work: Any) -> bool:
    found = segments.claim(job.pk, "helper", work.addresses)
    if found is not None:
        segments.give_back(found.pk, "helper")
    return found is not None


def test_a_job_begun_on_a_device_is_left_alone_by_whoever_would_write_it_otherwise(job: Job, plan: Any) -> None:
    work = plan(ONE)
    assert work.spec.hardware == "encode"
    begin(job, work)
    assert helps(job, plan(ONE))
    assert not helps(job, plan(OTHER))
    assert not helps(job, plan(None))
    assert not helps(job, plan(ONE, allowed=False))


def test_a_job_begun_in_software_goes_on_in_software_where_there_is_a_device_and_where_there_is_none(
    job: Job, plan: Any
) -> None:
    begin(job, plan(None))
    for work in (plan(ONE), plan(None), plan(ONE, allowed=False)):
        assert work.spec.hardware != "encode"
        assert helps(job, work)


def test_a_device_that_fails_leaves_the_job_to_software_from_the_first_segment(
    job: Job, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = plan(ONE)
    tried = []

    def render(_: Job, owner: str, work: Any, *__: Any) -> str:
        begin(job, work)
        tried.append(work.spec.hardware)
        if work.spec.hardware == "encode":
            raise MediaError("device_missing")
        return "joined"

    monkeypatch.setattr(rendering, "_render", render)
    lease = leases.Lease(Job, job.pk, "worker", [Job.State.RUNNING])
    spec = plan(ONE, try_device=False).spec
    done: Any = rendering.render(
        job, "worker", spec, pattern=b"pattern", cards=BUILTIN, lease=lease, progress=lambda _: None
    )
    assert (done, tried) == ("joined", ["encode", "decode"])
    assert not helps(job, device)
    assert helps(job, plan(ONE))  # this very worker, and now in software
