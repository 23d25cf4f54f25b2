"""Signing while a service is away: tried again, waited for or done without, and nothing lost; on real services."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.utils import timezone

from consent import services as consents
from tests.watermark.provenance import key_stand_ins, tsa_stand_in
from tests.watermark.provenance.test_key_services import ARN, certified
from tests.webapp import cast
from watermark.credentials_reader import read
from watermark.manifest_request import ConsentRef, IngredientFile, ManifestRequest
from watermark.signers import SignerError
from watermark.timestamps import TimeStampError
from webapp import keys_of_house
from webapp.jobs import finishing, leases, running, signing
from webapp.jobs.models import Job, JobEvent, Output
from webapp.outbox.models import OutboxMessage
from worker import tasks

pytestmark = pytest.mark.django_db

REQUEST = ManifestRequest(
    mime="image/jpeg",
    target=IngredientFile("image/jpeg"),
    sources=(IngredientFile("image/jpeg"),),
    mark_id=bytes(8),
    consent_refs=(ConsentRef("cns_ada1", "face_donor"), ConsentRef("cns_ben1", "target_person")),
    policy_version="test",
    livemode=False,
    status_url="http://127.0.0.1:8000/verify",
)
GONE = "http://127.0.0.1:9/"


@pytest.fixture(autouse=True)
def house(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SIGNER_DIR = tmp_path / "signer"
    monkeypatch.setattr(signing, "PAUSES", (0.0,) * 3)


@pytest.fixture
def authority(tmp_path: Path, settings: Any) -> Iterator[tsa_stand_in.TimeStampAuthority]:
    """A time-stamp service in order, known to the house."""
    folder = tmp_path / "tsa"
    folder.mkdir()
    with tsa_stand_in.serving(folder) as made:
        (folder / "root.pem").write_text(made.root_pem)
        settings.TSA_URL, settings.TSA_ANCHORS_FILE = made.url, str(folder / "root.pem")
        yield made


@pytest.fixture
def sign(samples: Path, tmp_path: Path) -> Callable[..., signing.Signed]:
    def do(pause: Callable[[float], None] = lambda seconds: None) -> signing.Signed:
        return signing.sign(samples / "astronaut.jpg", tmp_path / "signed.jpg", REQUEST, pause)

    return do


def test_a_signature_is_stamped_by_a_service_the_house_knows(authority: Any, sign: Any) -> None:
    signed = sign()
    assert signed.time_stamp == "trusted"
    assert signed.manifest.credentials.time_source == "tsa"


def test_a_stamp_of_an_authority_the_house_does_not_know_is_recorded_as_such(
    authority: Any, sign: Any, settings: Any
) -> None:
    settings.TSA_ANCHORS_FILE = ""
    assert sign().time_stamp == "untrusted"


def test_without_a_service_nothing_is_stamped(sign: Any) -> None:
    assert sign().time_stamp == "none"


def test_a_service_that_comes_back_between_two_tries_is_used(authority: Any, sign: Any) -> None:
    authority.behave = lambda right, handler: tsa_stand_in.answer(handler, b"", 503)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            authority.behave = None

    assert sign(pause).time_stamp == "trusted"
    assert len(pauses) == 2


@pytest.mark.parametrize("answer", [b"", b"garbage"])
def test_the_operator_chooses_whether_to_wait_or_to_publish_without(
    authority: Any, sign: Any, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    authority.behave = lambda right, handler: tsa_stand_in.answer(handler, answer)
    with pytest.raises(TimeStampError):
        sign()
    assert len(authority.asked) == len(signing.PAUSES) + 1
    assert not (tmp_path / "signed.jpg").exists()
    settings.TSA_WHEN_DOWN = "publish"
    signed = sign()
    assert signed.time_stamp == "missed"
    assert signed.manifest.credentials.state == "trusted"
    assert authority.url in caplog.text  # the operator reads which service it was


def test_a_key_service_that_is_away_is_asked_again_and_a_refusal_is_not(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    service = key_stand_ins.StandIn(ec.generate_private_key(ec.SECP256R1()))
    chain, root = certified(service.key.public_key())
    (tmp_path / "chain.pem").write_text(chain)
    (tmp_path / "root.pem").write_text(root)
    settings.SIGNER_CHAIN_FILE, settings.SIGNER_KEY_URI = str(tmp_path / "chain.pem"), f"aws-kms:{ARN}"
    settings.SIGNER_ANCHORS_FILE = str(tmp_path / "root.pem")
    settings.TSA_WHEN_DOWN = "publish"  # is about time stamps: a signature cannot be done without
    pauses: list[float] = []
    with key_stand_ins.serving(service, key_stand_ins.AwsKms):
        settings.SIGNER_ENDPOINT = service.url
        service.failure = (500, {"__type": "KMSInternalException", "message": "the very words"})
        with pytest.raises(SignerError) as caught:
            sign(pauses.append)
        assert (caught.value.code, len(pauses)) == ("signer_unavailable", len(signing.PAUSES))
        assert "the very words" in caplog.text
        service.failure = (400, {"__type": "AccessDeniedException", "message": "not you"})
        with pytest.raises(SignerError) as caught:
            sign(pauses.append)
        assert (caught.value.code, len(pauses)) == ("signer_denied", len(signing.PAUSES))
        service.failure = None
        assert sign().manifest.credentials.is_ours


def test_a_certificate_that_is_rotated_while_a_worker_runs_signs_the_next_file(
    settings: Any, tmp_path: Path, sign: Any
) -> None:
    def serial(signed: signing.Signed) -> str:
        (tmp_path / "signed.jpg").unlink()
        told = read(signed.manifest.store, "application/c2pa", anchors_pem="")
        return str(told.raw["manifests"][signed.manifest.label]["signature_info"])

    first = serial(sign())
    keys_of_house._authority().rotate()
    assert serial(sign()) != first


# --- the task -------------------------------------------------------------------------------------------------------
class Bench:
    """A worker of which only the render is stood in for; the finished file is signed for real."""

    def __init__(self, stage: Any, monkeypatch: pytest.MonkeyPatch, sign: Any) -> None:
        self.stage, self.sign = stage, sign
        self.job: Job = stage.screened(stage.submit())
        self.rendered = 0
        monkeypatch.setattr(tasks, "materialise", lambda job, folder: SimpleNamespace(kind="photo"))
        monkeypatch.setattr(tasks.rendering, "engine", lambda: "engine")
        monkeypatch.setattr(tasks, "with_models", lambda spec, engine: (spec, None))
        monkeypatch.setattr(tasks.pipeline, "run_job", self._run)
        monkeypatch.setattr(finishing, "finish", self._finish)

    def _run(self, *_: Any, **__: Any) -> Any:
        self.rendered += 1
        return _Anything()

    def _finish(self, job: Job, *_: Any, pause: Callable[[float], None]) -> running.Draft:
        signed = self.sign(pause)
        draft: running.Draft = self.stage.draft(job, time_stamp=signed.time_stamp)
        return draft

    def work(self) -> Job:
        """One message of this job."""
        OutboxMessage.objects.all().delete()
        tasks.run_job(self.job.pk)
        self.job.refresh_from_db()
        return self.job


class _Anything:
    def __getattr__(self, name: str) -> None:
        return None


@pytest.fixture
def bench(stage: Any, monkeypatch: pytest.MonkeyPatch, sign: Any) -> Bench:
    return Bench(stage, monkeypatch, sign)


def test_a_job_waits_for_the_time_stamp_service_as_long_as_it_takes_and_renders_once_more_only(
    bench: Bench, authority: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url, settings.TSA_URL = settings.TSA_URL, GONE
    for start in range(8):  # more than the starts a job has that makes no progress
        begun = timezone.now()
        job = bench.work()
        assert (job.state, job.lease_owner, job.failure_code) == ("ready", "", "")
        message = OutboxMessage.objects.get(topic="task")
        assert (message.not_before - begun).total_seconds() > min(2**start, 55)
    assert bench.rendered == 1  # after the first, the service is asked before anything is rendered
    event = JobEvent.objects.filter(job=job).last()
    assert (event.code, "nothing is lost" in event.message) == ("tsa_unavailable", True)
    assert GONE not in event.message
    assert GONE in caplog.text
    settings.TSA_URL = url
    assert bench.work().state == "succeeded"
    assert (bench.rendered, Output.objects.get(job=job).time_stamp) == (2, "trusted")


def test_a_job_is_published_without_a_time_stamp_if_the_operator_so_chose(bench: Bench, settings: Any) -> None:
    settings.TSA_URL, settings.TSA_WHEN_DOWN = GONE, "publish"
    job = bench.work()
    assert (job.state, bench.rendered) == ("succeeded", 1)
    assert Output.objects.get(job=job).time_stamp == "missed"


def test_a_refusal_of_the_key_service_fails_the_job_and_tells_the_operator_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses() -> Any:
        raise SignerError("signer_denied", "The service refuses.", "AccessDeniedException: not you")

    monkeypatch.setattr(keys_of_house, "signer", refuses)
    job = bench.work()
    assert (job.state, job.failure_code, bench.rendered) == ("failed", "signer_denied", 0)
    assert "not you" not in job.failure_message
    assert "AccessDeniedException: not you" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_permission_that_ends_while_the_service_is_away_ends_the_wait(
    bench: Bench, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TSA_URL = GONE
    waited: list[float] = []
    wait = leases.Lease.wait

    def withdrawn_meanwhile(lease: leases.Lease, seconds: float) -> None:
        waited.append(seconds)
        consents.withdraw_consent(cast.donor(bench.job))
        wait(lease, seconds)

    monkeypatch.setattr(leases.Lease, "wait", withdrawn_meanwhile)
    job = bench.work()
    assert (job.state, job.failure_code, len(waited)) == ("refused", "consent_withdrawn", 1)
    assert not Output.objects.exists()
