"""The cast: Cleo's organisation with screened files of Ada (donor) and Ben (target person), and another tenant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection

from consent import services as consents
from consent.models import Attestation, Consent
from tests.webapp import cast
from webapp.accounts import services as accounts
from webapp.accounts.models import Organisation
from webapp.jobs import flow, running, services
from webapp.jobs.models import Asset, Job
from webapp.screening.models import ScreeningRecord

PASSWORD = "correct horse battery staple"
FACES = [{"index": 0, "box": [10, 10, 90, 90], "size": 90.0, "yaw": 0.0}]
TWO_FACES = [*FACES, {"index": 1, "box": [210, 10, 90, 90], "size": 90.0, "yaw": 0.0}]
OF_A_JOB = ("declaration", "purpose", "options", "livemode", "swaps")


class Stage:
    """What the tests of this room act with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.studio = accounts.create_organisation("Cleo's studio")
        self.other = accounts.create_organisation("Dan's studio")
        self.cleo = accounts.create_user(email="cleo@example.org", password=PASSWORD, organisation=self.studio)
        self.mod = accounts.create_user(email="mod@example.org", password=PASSWORD, organisation=None, moderator=True)
        self.count = 0

    def upload(self, role: str, organisation: Organisation | None = None) -> Asset:
        """A file of its own, not screened yet."""
        self.count += 1
        path = self.folder / f"{role}-{self.count}.jpg"
        path.write_bytes(f"{role} {self.count}".encode())
        user = self.cleo if organisation is None else None
        return services.receive_asset(organisation or self.studio, user, role=role, file=path, name=path.name)

    def ready(self, role: str, organisation: Organisation | None = None, **changes: Any) -> Asset:
        """A file that passed its screening."""
        asset = self.upload(role, organisation)
        values = {"state": Asset.State.READY, "kind": "photo", "mime": "image/jpeg", "faces": FACES, **changes}
        Asset.objects.filter(pk=asset.pk).update(**values)
        asset.refresh_from_db()
        return asset

    def ask(self, role: str, asset: Asset, *, give: bool = True, max_outputs: int = 1, **changes: Any) -> Consent:
        """A consent to this file, given unless told otherwise."""
        donor = role == "face_donor"
        consent, _ = consents.request_consent(
            **{
                "organisation_id": asset.organisation_id,
                "organisation_name": asset.organisation.name,
                "requested_by": "Cleo",
                "role": role,
                "name": "Ada" if donor else "Ben",
                "purposes": ["personal"],
                "photos": [consents.PhotoRef(asset_id=asset.pk, sha256=asset.sha256, face=0)] if donor else [],
                "target": None if donor else consents.TargetRef(asset_id=asset.pk, sha256=asset.sha256, face=0),
                "max_outputs": max_outputs,
                "livemode": False,
                **changes,
            }
        )
        if give:
            self.agree(consent)
        return consent

    def agree(self, consent: Consent) -> None:
        """The person ticks everything and signs."""
        notice = consents.consent_text(consent, consent.locale)
        consents.give_consent(
            consent,
            ticks={name: True for name, _ in notice.boxes},
            typed_name="Ada Example",
            confirmed_photos=consent.photo_sha256s,
            notice_sha256=notice.sha256,
        )
        consent.refresh_from_db()

    def declare(self, organisation: Organisation | None = None) -> Attestation:
        """The account's declaration."""
        return consents.attest_declaration(
            organisation_id=(organisation or self.studio).pk,
            made_by=str(self.cleo.pk),
            ticks={name: True for name, _ in consents.declaration_text("en").boxes},
        )

    def attest(self, target: Asset) -> Attestation:
        """The account's rights in a target, in place of the replaced person's consent."""
        return consents.attest_target_rights(
            organisation_id=self.studio.pk,
            made_by=str(self.cleo.pk),
            basis=consents.rights_bases("en")[0][0],
            statement="We filmed this ourselves and hold all rights in it.",
            ticks={name: True for name, _ in consents.target_rights_text("en").boxes},
            target_sha256=target.sha256,
        )

    def swap(self, target: Asset, **changes: Any) -> services.SwapWanted:
        """One replacement in `target`, both people having agreed, with everything in order but for `changes`."""
        source = changes.pop("source", None) or self.ready("source")
        values: dict[str, Any] = {"target_face": 0, "sources": [(source, 0)], **changes}
        if "donor_consent" not in values:
            values["donor_consent"] = self.ask("face_donor", source)
        if "target_consent" not in values:
            values["target_consent"] = self.ask("target_person", target)
        return services.SwapWanted(**values)

    def submit(self, **changes: Any) -> Job:
        """A job with everything in order but for `changes`; what belongs to a replacement goes to its only one."""
        target = changes.pop("target", None) or self.ready("target")
        of_job = {name: changes.pop(name) for name in OF_A_JOB if name in changes}
        values = {"declaration": self.declare(), "purpose": "personal", "options": {}, "livemode": False, **of_job}
        if "swaps" not in values:
            values["swaps"] = [self.swap(target, **changes)]
        return services.submit_job(self.studio, self.cleo, target=target, **values)

    def pair(self, target: Asset, face: int, *, most: int = 1, give: bool = True) -> services.SwapWanted:
        """A replacement of one of the faces of `target`, of two people of its own."""
        source = self.ready("source")
        scene = consents.TargetRef(asset_id=target.pk, sha256=target.sha256, face=face)
        donor = self.ask("face_donor", source, max_outputs=most, give=give)
        replaced = self.ask("target_person", target, target=scene, max_outputs=most, give=give)
        return services.SwapWanted(face, [(source, 0)], donor, replaced)

    def two(self, **changes: Any) -> Job:
        """A job with two replacements in one target: four people."""
        target = changes.pop("target", None) or self.ready("target", faces=TWO_FACES)
        pairs = {name: changes.pop(name) for name in ("most", "give") if name in changes}
        return self.submit(target=target, swaps=[self.pair(target, face, **pairs) for face in (0, 1)], **changes)

    def screened(self, job: Job, decision: str = "accept") -> Job:
        """The gate let the job through."""
        claimed = running.claim_job(job.pk, "gate", from_state="queued", to_state="screening")
        assert claimed is not None
        ScreeningRecord.objects.create(
            job=job, profile="evaluation", policy_version="test", signals=[], decision=decision
        )
        assert flow.gate_passed(job.pk, Job.State.SCREENING, owner="gate")
        job.refresh_from_db()
        return job

    def run(self, job: Job, owner: str = "worker") -> Job:
        """A worker has taken the job and may run it."""
        assert running.claim_job(job.pk, owner) is not None
        assert running.authorise(job.pk, owner)
        job.refresh_from_db()
        return job

    def draft(self, job: Job, **changes: Any) -> running.Draft:
        """A finished result of the job."""
        job.refresh_from_db()
        values = {
            "mime": "image/jpeg",
            "sha256": "0" * 64,
            "size": 3,
            "media": {},
            "object_name": "output/" + "0" * 40,
            "key_id": "key_x",
            "mark_id": bytes(job.mark_id or b""),
            "mark_key": "local/2026",
            "manifest_label": f"urn:c2pa:{job.pk}",
            "manifest_store": b"store",
            "time_stamp": "none",
            "fingerprint": {},
            "timings": {"swap": 1.0},
            "quality": {},
            "warnings": [],
            **changes,
        }
        return running.Draft(**values)

    def publish(self, job: Job, owner: str = "worker") -> Any:
        """Through finishing to the output."""
        assert running.begin_finishing(job.pk, owner)
        return running.publish_output(job.pk, owner, self.draft(job))


@pytest.fixture
def stage(db: None, tmp_path: Path, settings: Any) -> Stage:
    settings.STORAGE_URL = f"file://{tmp_path / 'objects'}"
    return Stage(tmp_path)


@pytest.fixture
def _append_only_again(django_db_blocker: Any) -> Iterator[None]:
    """Ends after the flush: PostgreSQL's triggers work again."""
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = DEFAULT")


@pytest.fixture
def committed(_append_only_again: None, transactional_db: None) -> Iterator[None]:
    """Real commits, seen by other threads. Ends before the flush, which append-only tables would refuse (TRUNCATE)."""
    yield
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")


@pytest.fixture
def cleo(db: None) -> cast.Account:
    """Who uploads, at the pages' and the API's doors."""
    return cast.account("Cleo")


@pytest.fixture
def dan(db: None) -> cast.Account:
    """Somebody of another organisation."""
    return cast.account("Dan")


@pytest.fixture(autouse=True)
def _no_counters() -> None:
    """Rate limits of one test are not those of the next."""
    cache.clear()
