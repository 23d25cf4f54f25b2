"""Every way a task can end has its name, and only known errors tell their text."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from webapp.storage import StorageError
from worker import endings, tasks
from worker.faces.errors import FaceError
from worker.gate import measure
from worker.inference.types import ModelError
from worker.media.errors import MediaError
from worker.pipeline.errors import PipelineError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MediaError("truncated"), "truncated"),
        (MediaError("disk_full"), "disk_full"),
        (FaceError("pose_gap"), "pose_gap"),
        (ModelError("engine_failed", "gone"), "engine_failed"),
        (PipelineError("target_missing"), "target_missing"),
        (StorageError("object_missing", "gone"), "object_missing"),
        (measure.UnusableError("too_large", "large"), "too_large"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EACCES, "Permission denied"), "internal_error"),
        (RuntimeError("/home/ada/secret.jpg"), "internal_error"),
    ],
)
def test_each_error_has_its_code(error: Exception, code: str) -> None:
    found, message = endings.described(error)
    assert found == code
    assert message
    assert "secret" not in message


def test_an_error_that_only_looks_like_ours_tells_nothing() -> None:
    error = RuntimeError("token abc")
    error.code = "consent_not_given"  # type: ignore[attr-defined]
    assert endings.described(error) == ("internal_error", endings.INTERNAL)


def test_progress_is_written_once_a_second_and_at_once_for_a_new_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(tasks, "monotonic", lambda: now[0])
    written: list[Any] = []
    show = tasks._throttled(written.append)

    def progress(stage: str, done: int) -> SimpleNamespace:
        return SimpleNamespace(fraction=done / 10, stage=stage, frames_done=done, frames_total=10, eta_seconds=None)

    for done in range(5):
        show(progress("encode", done))
        now[0] += 0.3
    show(progress("mark", 5))
    assert [(each["stage"], each["frames_done"]) for each in written] == [("encode", 0), ("encode", 4), ("mark", 5)]


def test_every_task_has_the_name_by_which_it_is_sent() -> None:
    from webapp.celery import app

    for name in ("screen_asset", "screen_job", "run_job", "tick", "expire", "retain"):
        assert getattr(tasks, name).name == f"worker.{name}"
        assert f"worker.{name}" in app.conf.task_routes
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.conf.task_routes)
