"""The task that checks a live selfie, with the real models: who passes, who does not, and a worker that dies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from consent import services as consents
from consent.models import Challenge, Consent
from tests.webapp import cast
from tests.worker.liveness.talking_head import render
from webapp import storage
from webapp.console import evidence_rows
from webapp.jobs import challenges as work
from webapp.jobs import leases
from webapp.jobs import services as jobs
from webapp.jobs.models import Asset
from worker import challenges as task
from worker import tasks
from worker.gate import signals
from worker.inference.client import ensure_engine, stop_engine
from worker.inference.types import ModelError
from worker.pipeline.run import analyse

pytestmark = pytest.mark.django_db(transaction=True)  # the heart-beat has a connection of its own

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
ACTIONS = ("turn_right", "open_mouth", "turn_left")


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> Iterator[Path]:
    """The engine of this test run's home, as the task finds it."""
    yield ensure_engine(settings.HOME, models_dir=models_dir)
    stop_engine(settings.HOME)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> bytes:
    """The astronaut before her phone, doing ACTIONS."""
    path = tmp_path_factory.mktemp("clip") / "clip.webm"
    render(SAMPLES / "astronaut.jpg", ACTIONS, path, fps=15.0)
    return path.read_bytes()


@pytest.fixture(scope="module")
def analyses(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The analyses of both sample photos, as screening makes them."""
    folder = tmp_path_factory.mktemp("analyses")
    for name in ("astronaut", "grace_hopper"):
        analyse(SAMPLES / f"{name}.jpg", folder / name, engine_socket=engine, work_dir=folder)
    return {name: folder / name for name in ("astronaut", "grace_hopper")}


@pytest.fixture
def sent(analyses: dict[str, Path], clip: bytes, tmp_path: Path) -> Callable[..., Challenge]:
    """A challenge with its clip sent, for the person of a sample photo."""
    cleo = cast.account("Cleo")

    def make(photo: str = "astronaut", *, actions: tuple[str, ...] = ACTIONS, role: str = "face_donor") -> Challenge:
        asset = cast.ready(cleo, "source" if role == "face_donor" else "target", path=SAMPLES / f"{photo}.jpg")
        name = storage.store_file(analyses[photo], key_id=asset.key_id, prefix="analysis")
        Asset.objects.filter(pk=asset.pk).update(analysis_name=name)
        donor = role == "face_donor"
        consent, _ = jobs.request_consent(
            organisation_id=cleo.organisation.pk,
            organisation_name=cleo.organisation.name,
            requested_by="Cleo",
            role=role,
            name="Ada",
            purposes=["personal"],
            photos=[consents.PhotoRef(asset.pk, asset.sha256, 0)] if donor else [],
            target=None if donor else consents.TargetRef(asset.pk, asset.sha256, 0),
            livemode=False,
            assurance="L2",
        )
        notice = consents.consent_text(consent, "en")
        consents.answer_consent(
            consent,
            ticks={box: True for box, _ in notice.boxes},
            typed_name="Ada Byron",
            confirmed_photos=consent.photo_sha256s,
            notice_sha256=notice.sha256,
        )
        challenge = consents.issue_challenge(consent)
        Challenge.objects.filter(pk=challenge.pk).update(actions=list(actions))
        path = tmp_path / f"{challenge.pk}.webm"
        path.write_bytes(clip)
        with path.open("rb") as file:
            return consents.submit_clip(consent, challenge.pk, file, mime="video/webm", size=len(clip))

    return make


def _checked(challenge: Challenge) -> tuple[Challenge, Consent]:
    task.check_challenge(challenge.pk)
    challenge.refresh_from_db()
    challenge.consent.refresh_from_db()
    return challenge, challenge.consent


@pytest.mark.parametrize("role", ["face_donor", "target_person"])
def test_the_person_of_the_picture_passes_and_no_biometrics_are_kept(sent, role: str) -> None:
    challenge, consent = _checked(sent(role=role))
    assert (challenge.state, challenge.codes) == ("passed", [])
    assert (consent.state, consent.assurance) == ("given", "L2")
    found = consent.evidence["selfie_match"]
    assert 0 <= found["score"] <= found["threshold"] == 0.45
    assert [seen["name"] for seen in challenge.report["actions"]] == list(ACTIONS)
    numbers = [value for value in _leaves(challenge.report) if isinstance(value, float)]
    assert len(numbers) < 30  # a descriptor alone has 128
    assert all(storage.exists(name) for name in [challenge.clip_name, *challenge.stills])
    assert not list((Path(settings.WORK_DIR) / "tasks").glob("chl_*"))
    (seen,) = task.live_checks([consent])
    version = challenge.report["policy_version"]
    assert seen == signals.LiveCheck(consent.pk, True, actions=ACTIONS, by="policy", version=version)
    (told,) = evidence_rows.rows([signals.liveness([seen]).to_dict()])
    assert told.value == f"passed, decided by the check itself (turn right, open mouth, turn left), version {version}"
    assert not [value for value in _leaves(signals.liveness([seen]).to_dict()) if isinstance(value, float)]
    # A level without the check that it rests on is told, and one below has none to tell.
    Challenge.objects.filter(pk=challenge.pk).update(state=Challenge.State.REVIEW, decided_by="usr_mod")
    assert task.live_checks([consent]) == [signals.LiveCheck(consent.pk, passed=False)]
    Challenge.objects.filter(pk=challenge.pk).update(state=Challenge.State.PASSED)
    assert task.live_checks([consent])[0].by == "person"
    consent.assurance = "L1"
    assert task.live_checks([consent]) == []


def test_a_jobs_evidence_holds_the_live_checks_of_those_who_were_asked_for_one(analyses: dict[str, Path]) -> None:
    job = cast.submitted(cast.account("Cleo"))
    for asset in job.inputs():
        name = storage.store_file(analyses["astronaut"], key_id=asset.key_id, prefix="analysis")
        Asset.objects.filter(pk=asset.pk).update(analysis_name=name)
    donor = cast.donor(job)
    Consent.objects.filter(pk=donor.pk).update(assurance="L2")
    now = timezone.now()
    Challenge.objects.create(
        consent=donor,
        state=Challenge.State.PASSED,
        actions=list(ACTIONS),
        issued_at=now,
        expires_at=now,
        decided_at=now,
        decided_by="policy",
        key_id=donor.key_id,
        report={"policy_version": "2026-11.1"},
    )
    tasks.screen_job(job.pk)
    record = job.screenings.get()
    (found,) = [each["value"]["checks"] for each in record.signals if each["kind"] == "liveness"]
    assert found == [
        {
            "consent": donor.pk,
            "passed": True,
            "actions": list(ACTIONS),
            "codes": [],
            "by": "policy",
            "version": "2026-11.1",
        }
    ]
    assert not [reason for reason in record.reasons if "liveness" in reason]


def test_another_person_and_another_order_do_not_pass(sent) -> None:
    stranger, consent = _checked(sent("grace_hopper"))
    assert (stranger.state, consent.state) == ("failed", "viewed")
    assert "identity_mismatch" in stranger.codes
    other, consent = _checked(sent(actions=("open_mouth", "turn_right", "turn_left")))
    assert (other.state, consent.state) == ("failed", "viewed")
    assert other.codes[0] in {"wrong_order", "action_missing", "extra_action"}
    assert other.stills == []


def test_a_second_message_and_a_dead_worker_do_nothing_twice(sent) -> None:
    challenge = sent()
    assert work.claim(challenge.pk, leases.new_owner()) is not None  # a worker that will never be heard of again
    task.check_challenge(challenge.pk)
    challenge.refresh_from_db()
    assert challenge.state == "checking"
    Challenge.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert work.reap() == 1
    challenge, consent = _checked(challenge)
    task.check_challenge(challenge.pk)
    assert (challenge.state, consent.state) == ("passed", "given")
    assert consent.events.filter(type="given").count() == 1


def test_pictures_that_are_gone_end_the_check_with_the_reason(sent) -> None:
    challenge = sent()
    Asset.objects.update(erased_at=timezone.now())
    challenge, consent = _checked(challenge)
    assert (challenge.state, challenge.codes, consent.state) == ("failed", ["source_missing"], "viewed")


@pytest.mark.parametrize(
    ("error", "state", "codes"),
    [
        (ModelError("engine_unavailable", "away"), "submitted", []),
        (RuntimeError("a fault of ours"), "failed", ["check_failed"]),
    ],
)
def test_what_is_our_fault_is_not_the_persons(sent, monkeypatch, error, state, codes) -> None:
    challenge = sent()

    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(task.liveness, "examine", broken)
    challenge, consent = _checked(challenge)
    assert (challenge.state, challenge.codes, consent.state) == (state, codes, "viewed")
    assert consents.check_state(consent) == ("checking" if state == "submitted" else "waiting")


def test_what_is_no_video_is_said_so(sent, clip) -> None:
    challenge = sent()
    name = storage.store_file(SAMPLES / "astronaut.jpg", key_id=challenge.key_id, prefix="selfie")
    Challenge.objects.update(clip_name=name)
    challenge, consent = _checked(challenge)
    assert (challenge.state, challenge.codes, consent.state) == ("failed", ["clip_unreadable"], "viewed")


def _leaves(value: object) -> list[object]:
    value = json.loads(json.dumps(value))
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in _leaves(each)]
    return [value]
