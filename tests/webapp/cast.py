"""The people of the tests, and what they own: Cleo has an account, Dan one of another organisation, Mod moderates.

Everything is made by the services themselves; only what a worker would have found in a file is given by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.test import Client

from consent import services as consents
from consent.models import Consent
from watermark.payload import new_mark_id
from webapp import keys_of_house, storage
from webapp.accounts import services as accounts
from webapp.accounts.models import Organisation, User
from webapp.jobs import intake, leases
from webapp.jobs import services as jobs
from webapp.jobs.models import Asset, Job, Output
from webapp.screening import services as screening
from worker.gate.policy import GateDecision

PASSWORD = "correct horse battery"
SAMPLES = Path(__file__).parents[1] / "samples"
DECLARED = {name: True for name, _ in consents.declaration_text("en").boxes}


@dataclass
class Account:
    """Somebody with an account: the browser they are logged in with, and their organisation's partner key."""

    organisation: Organisation
    user: User
    api_key: str
    browser: Client = field(default_factory=Client)

    @property
    def api(self) -> dict[str, str]:
        """Headers of an API request."""
        return {"Authorization": f"Bearer {self.api_key}"}


def account(name: str) -> Account:
    """An account of an organisation of its own, logged in."""
    organisation = accounts.create_organisation(f"{name}'s studio")
    email = f"{name.lower()}@example.org"
    user = accounts.create_user(email=email, password=PASSWORD, organisation=organisation)
    _, key = accounts.issue_api_key(organisation, name="tests")
    made = Account(organisation, user, key)
    made.browser.force_login(user)
    return made


def moderator() -> tuple[User, Client]:
    """Mod, logged in."""
    user = accounts.create_user(email="mod@example.org", password=PASSWORD, organisation=None, moderator=True)
    browser = Client()
    browser.force_login(user)
    return user, browser


def face(index: int, size: float = 200.0) -> dict[str, object]:
    """A face as an analysis names it."""
    return {"index": index, "box": [10.0, 10.0, size, size], "size": size, "yaw": 0.0}


def uploaded(owner: Account, role: str, path: Path | None = None) -> Asset:
    """A file that was uploaded and not looked at yet."""
    path = path or SAMPLES / ("astronaut.jpg" if role == "source" else "grace_hopper.jpg")
    return jobs.receive_asset(owner.organisation, owner.user, role=role, file=path, name=path.name)


def ready(owner: Account, role: str, *, faces: int = 1, path: Path | None = None) -> Asset:
    """An upload that passed the gate; the largest face is the last one."""
    asset = uploaded(owner, role, path)
    worker = leases.new_owner()
    assert intake.claim_asset(asset.pk, worker)
    picture = path or SAMPLES / "astronaut.jpg"
    previews = {str(n): storage.store_file(picture, key_id=asset.key_id, prefix="preview") for n in range(faces)}
    found = [face(n, 100.0 + 50 * n) for n in range(faces)]
    media = {"kind": "photo", "mime": "image/jpeg", "width": 512, "height": 512, "duration": None}
    assert intake.record_intake(asset.pk, worker, media=media, faces=found, analysis_name="", previews=previews)
    assert intake.asset_accepted(asset.pk, owner=worker)
    asset.refresh_from_db()
    return asset


def refused(owner: Account, reason: str = "face_too_small") -> Asset:
    """A target that the gate refused for this reason."""
    asset = uploaded(owner, "target")
    assert intake.claim_asset(asset.pk, "screener")
    decided = GateDecision("reject", (reason,), "The face is too small.", (), False, (), "evaluation")
    assert screening.settle_asset(decided, asset.pk, "screener")
    asset.refresh_from_db()
    return asset


def ask(owner: Account, role: str, name: str, source: Asset, target: Asset) -> tuple[Consent, str]:
    """A question to a depicted person, and the token of their link."""
    photos = [consents.PhotoRef(source.pk, source.sha256, 0)] if role == "face_donor" else []
    return consents.request_consent(
        organisation_id=owner.organisation.pk,
        organisation_name=owner.organisation.name,
        requested_by="Cleo",
        role=role,
        name=name,
        purposes=["personal"],
        photos=photos,
        target=consents.TargetRef(target.pk, target.sha256, 0),
        livemode=False,
    )


def donor(job: Job, place: int = 0) -> Consent:
    """The permission of the person whose face is put in, in the job's replacement number `place`."""
    return job.swaps.select_related("donor_consent").get(position=place).donor_consent


def replaced(job: Job, place: int = 0) -> Consent:
    """The permission of the person whose face is replaced, in the job's replacement number `place`."""
    found = job.swaps.select_related("target_consent").get(position=place).target_consent
    assert found is not None
    return found


def photo(job: Job) -> Asset:
    """The only source photo of the job's only replacement."""
    return job.swaps.get().photos.get().asset


def whole_answer(consent: Consent, signed: str) -> dict[str, Any]:
    """A yes to everything that is asked in English, as `give_consent` and `answer_consent` take it."""
    notice = consents.consent_text(consent, "en")
    return {
        "ticks": {name: True for name, _ in notice.boxes},
        "typed_name": signed,
        "confirmed_photos": consent.photo_sha256s,
        "notice_sha256": notice.sha256,
    }


def submitted(owner: Account) -> Job:
    """A job that waits for its gate, with both people asked."""
    source, target = ready(owner, "source"), ready(owner, "target")
    donor, _ = ask(owner, "face_donor", "Ada", source, target)
    replaced, _ = ask(owner, "target_person", "Ben", source, target)
    declaration = consents.attest_declaration(
        organisation_id=owner.organisation.pk, made_by=str(owner.user.pk), ticks=DECLARED
    )
    return jobs.submit_job(
        owner.organisation,
        owner.user,
        target=target,
        swaps=[jobs.SwapWanted(0, [(source, 0)], donor, replaced)],
        declaration=declaration,
        purpose="personal",
        options={},
        livemode=False,
    )


def published(owner: Account, path: Path | None = None, *, mark_id: bytes = b"", fingerprint: object = None) -> Output:
    """A job that succeeded, with the file at `path` as its output."""
    job = submitted(owner)
    path = path or SAMPLES / "grace_hopper.jpg"
    target = job.target
    with path.open("rb") as file:
        digest = intake._digest(file)
    Job.objects.filter(pk=job.pk).update(
        state=Job.State.SUCCEEDED,
        quality={"0": {"distance_to_source": 0.38, "target_source_before": 0.7, "yaw_gap": 2.0, "warnings": []}},
        timings={"swap": 0.2},
    )
    return Output.objects.create(
        organisation=owner.organisation,
        job=job,
        mime="image/jpeg" if path.suffix == ".jpg" else "image/png",
        sha256=digest[0],
        size=digest[1],
        media={"kind": "photo", "width": 512, "height": 600},
        object_name=storage.store_file(path, key_id=target.key_id, prefix="output"),
        key_id=target.key_id,
        mark_id=mark_id or new_mark_id(),
        mark_key=keys_of_house.mark_keys()[0].name,
        manifest_label=f"urn:c2pa:{job.pk}",
        manifest_store=b"manifest store",
        fingerprint=fingerprint or {},
    )
