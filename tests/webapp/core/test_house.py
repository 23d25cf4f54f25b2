"""The house's own keys, its Celery configuration and what its logs keep out."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from watermark.signers import DevelopmentAuthority
from webapp import keys_of_house, observability
from webapp.celery import app


@pytest.mark.django_db
def test_the_mark_key_of_this_year_comes_first_and_earlier_ones_stay_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    first = keys_of_house.mark_keys()
    monkeypatch.setattr(keys_of_house, "datetime", _Year)
    later = keys_of_house.mark_keys()
    assert [key.name.rsplit("/", 1)[-1] for key in later] == ["2028", "2027", "2026"]
    assert first[0] in later
    assert keys_of_house.mark_key(first[0].name) == first[0]
    with pytest.raises(keys_of_house.KeysError):
        keys_of_house.mark_key("elsewhere/2026")


@pytest.mark.django_db
def test_after_a_change_of_name_marks_under_the_old_name_stay_readable(settings: Any) -> None:
    settings.DEPLOYMENT = "old"
    before = keys_of_house.mark_keys()
    settings.DEPLOYMENT, settings.PREVIOUS_DEPLOYMENTS = "new", ["old"]
    after = keys_of_house.mark_keys()
    assert after[0].name.startswith("new/")
    assert before[0] in after


class _Year:
    @staticmethod
    def now(_: Any) -> Any:
        return type("Moment", (), {"year": 2028})


def test_in_evaluation_the_signer_is_the_untrusted_development_one(settings: Any, tmp_path: Path) -> None:
    settings.SIGNER_DIR = tmp_path / "signer"
    assert keys_of_house.signer().development
    assert keys_of_house.anchors_pem() == DevelopmentAuthority.open(tmp_path / "signer").root_pem


def test_production_signs_with_its_own_certificate_only(settings: Any, tmp_path: Path) -> None:
    settings.SIGNER_DIR = tmp_path / "signer"
    settings.PROFILE = "standard"
    with pytest.raises(keys_of_house.KeysError):
        keys_of_house.signer()
    DevelopmentAuthority.create(tmp_path / "own")
    settings.SIGNER_CHAIN_FILE = str(tmp_path / "own" / "chain.pem")
    with pytest.raises(keys_of_house.KeysError):
        keys_of_house.signer()
    settings.SIGNER_KEY_FILE = str(tmp_path / "own" / "signer.key")
    keys_of_house.signer()
    assert keys_of_house.anchors_pem().count("BEGIN CERTIFICATE") == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_anchors_that_cannot_be_read_are_named_by_their_setting(settings: Any, tmp_path: Path, content: Any) -> None:
    path = tmp_path / "roots.pem"
    if content:
        path.write_text(content)
    settings.TSA_ANCHORS_FILE = settings.SIGNER_ANCHORS_FILE = str(path)
    for name, read in (
        ("TSA_ANCHORS_FILE", keys_of_house.tsa_anchors_pem),
        ("SIGNER_ANCHORS_FILE", keys_of_house.anchors_pem),
    ):
        with pytest.raises(keys_of_house.KeysError, match=name):
            read()


def test_a_time_stamp_service_without_an_address_is_named(settings: Any) -> None:
    settings.TSA_URL = "tsa.example.org"
    with pytest.raises(keys_of_house.KeysError, match="TSA_URL"):
        keys_of_house.tsa()


def test_tasks_are_sent_late_acknowledged_one_at_a_time_and_as_json_only() -> None:
    conf = app.conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.accept_content == ["json"]
    assert conf.task_ignore_result
    assert {queue.name for queue in conf.task_queues} == {"ctl", "cpu.media", "interactive", "offline"}
    assert all(entry["options"]["expires"] < max(600, entry["schedule"]) for entry in conf.beat_schedule.values())


def test_with_redis_a_message_is_not_given_twice_while_the_longest_task_runs() -> None:
    code = (
        "from webapp.celery import app; conf = app.conf; "
        "print(conf.broker_url, conf.broker_transport_options['visibility_timeout'], conf.task_time_limit)"
    )
    environment = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    url, visibility, limit = done.stdout.split()
    assert url == "redis://127.0.0.1:1/0"
    assert int(visibility) > int(limit)


def test_the_scheduler_and_the_web_side_load_no_task_code() -> None:
    code = (
        "import django; django.setup(); import sys, webapp.celery; "
        "print([name for name in ('worker.tasks', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET /c/V3ryS3cretT0ken_x-y/give 200", "GET /c/…/give 200"),
        ("key imp_live_abcdefghjk_00ff11", "key imp_live_abcdefghjk_…"),
        ("/v1/outputs/out_1?token=abc&x=1", "/v1/outputs/out_1?token=…&x=1"),
        ("mail to ada.lovelace@example.org failed", "mail to … failed"),
        ("job_5p1z succeeded in 3.2 s", "job_5p1z succeeded in 3.2 s"),
    ],
)
def test_log_lines_hold_no_token_no_key_and_no_address(text: str, kept: str) -> None:
    assert observability.scrub(text) == kept


def test_a_traceback_is_scrubbed_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        observability.configure_logging()
        try:
            raise ValueError("ada@example.org followed /c/V3ryS3cret")
        except ValueError:
            logging.getLogger("test").exception("Failed for %s", "ben@example.org")
    finally:
        root.handlers[:], root.level = before, level
    line = json.loads(stream.getvalue().splitlines()[0])
    assert line["level"] == "error"
    for secret in ("ada@", "ben@", "V3ryS3cret"):
        assert secret not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
