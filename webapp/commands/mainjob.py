"""The main job from end to end, as its people do it: upload, ask, answer, run, publish, verify.

Nothing here goes round the product: assets and jobs through the services that pages and API use, the answer through
the depicted person's own page, the work through a real Celery worker, the verdict through the public verifier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.test import Client

from consent import services as consents
from consent.models import Attestation, Consent
from webapp.accounts.models import Organisation, User
from webapp.commands.forms import read_forms
from webapp.commands.supervise import House
from webapp.jobs import services as jobs
from webapp.jobs.models import Asset, Job, Output

Show = Callable[[str, float], None]
POLL_SECONDS = 0.1


class DemoError(RuntimeError):
    """The main job did not end as it must; the message says where and why."""


@dataclass(frozen=True)
class Person:
    """A stand-in for somebody depicted."""

    name: str
    contact: str


@dataclass(frozen=True)
class Result:
    """What one run of the main job gave."""

    job: Job
    output: Output
    path: Path
    seconds: Mapping[str, float]


class MainJob:
    """Runs one job for one account. `show(words, fraction)` draws the progress bar."""

    def __init__(self, organisation: Organisation, user: User, house: House, show: Show) -> None:
        self.organisation = organisation
        self.user = user
        self.house = house
        self.show = show
        self.client = Client(HTTP_HOST=urlsplit(settings.PUBLIC_URL).netloc, enforce_csrf_checks=False)

    def run(
        self,
        *,
        source: Path,
        target: Path,
        donor: Person,
        replaced: Person,
        out: Path,
        source_face: int | None = None,
        target_face: int | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Result:
        """Swap the donor's face from `source` into `target` and write the published output to `out`.

        A face may be left unnamed where the file shows one only. `options` are the job's.

        Raises DemoError, or the typed error of the room that refused.
        """
        seconds: dict[str, float] = {}
        started = time.monotonic()

        def lap(name: str) -> None:
            nonlocal started
            now = time.monotonic()
            seconds[name], started = now - started, now

        source_asset = self._upload(source, Asset.Role.SOURCE)
        target_asset = self._upload(target, Asset.Role.TARGET)
        for asset in (source_asset, target_asset):
            self._await_screening(asset)
        lap("upload and screening")

        donor_face = self._face(source_asset, source_face, "--source-face")
        scene_face = self._face(target_asset, target_face, "--target-face")
        photo = consents.PhotoRef(source_asset.id, source_asset.sha256, donor_face)
        scene = consents.TargetRef(target_asset.id, target_asset.sha256, scene_face)
        donor_consent = self._ask(donor, "face_donor", [photo], scene)
        target_consent = self._ask(replaced, "target_person", [], scene)
        lap("consent of both people")

        declaration = self._declare()
        job = jobs.submit_job(
            self.organisation,
            self.user,
            target=target_asset,
            swaps=[jobs.SwapWanted(scene_face, [(source_asset, donor_face)], donor_consent, target_consent)],
            declaration=declaration,
            purpose="personal",
            options=options,
            livemode=False,
        )
        job = self._await_job(job)
        lap("job")
        output = Output.objects.get(job=job)
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.part")
        try:
            with temporary.open("wb") as file, jobs.output_file(output) as published:
                for chunk in published:
                    file.write(chunk)
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
        return Result(job, output, out, seconds)

    def _upload(self, path: Path, role: Asset.Role) -> Asset:
        self.show(f"uploading {path.name}", 0.0)
        return jobs.receive_asset(self.organisation, self.user, role=role.value, file=path, name=path.name)

    def _await_screening(self, asset: Asset) -> None:
        while True:
            self.house.check()
            asset.refresh_from_db()
            if asset.state == Asset.State.READY:
                return
            if asset.state not in {Asset.State.UPLOADED, Asset.State.SCREENING}:
                raise DemoError(f"{asset.name} was not accepted ({asset.failure_code}): {asset.failure_message}")
            self.show(f"screening {asset.name}", float(asset.progress.get("fraction", 0.0)))
            time.sleep(POLL_SECONDS)

    def _face(self, asset: Asset, face: int | None, option: str) -> int:
        try:
            return jobs.chosen_face(asset, face)
        except jobs.JobsError as error:
            if error.code not in {"face_choice_required", "face_unknown"}:
                raise
            raise DemoError(
                f"{asset.name} shows {len(asset.faces)} faces; say which one is meant with {option} NUMBER "
                f"({error.code}). Nothing was made.\n{listed(asset)}"
            ) from None

    def _ask(self, person: Person, role: str, photos: list[consents.PhotoRef], target: consents.TargetRef) -> Consent:
        consent, token = jobs.request_consent(
            organisation_id=self.organisation.id,
            organisation_name=self.organisation.name,
            requested_by=self.user.get_full_name() or self.user.email,
            role=role,
            name=person.name,
            contact=person.contact,
            locale="en",
            purposes=["personal"],
            photos=photos,
            target=target,
            max_outputs=1,
            days=90,
            livemode=False,
        )
        self._answer(f"/c/{token}", person)
        consent.refresh_from_db()
        if consent.state != "given":
            raise DemoError(f"{person.name}'s page did not record the consent; it is {consent.state!r}.")
        return consent

    def _answer(self, address: str, person: Person) -> None:
        """Open the person's page, tick every box, type the name, agree: what the person would do on a phone."""
        page = self.client.get(address, follow=True)
        if page.status_code != 200:
            raise DemoError(f"The person's page answered {page.status_code}.")
        forms = [form for form in read_forms(page.content.decode()) if form.boxes]
        if not forms:
            raise DemoError("The person's page shows no boxes to tick.")
        data = forms[0].filled(texts={"typed_name": person.name})
        where = forms[0].action or page.request["PATH_INFO"]
        answer = self.client.post(where, data, follow=True)
        if answer.status_code != 200:
            raise DemoError(f"Agreeing on the person's page answered {answer.status_code}.")

    def _declare(self) -> Attestation:
        text = consents.declaration_text("en")
        return consents.attest_declaration(
            organisation_id=self.organisation.id,
            made_by=str(self.user.pk),
            ticks={name: True for name, _ in text.boxes},
            locale="en",
        )

    def _await_job(self, job: Job) -> Job:
        while True:
            self.house.check()
            job.refresh_from_db()
            if job.state == Job.State.SUCCEEDED:
                return job
            if job.state in Job.FINAL or job.state == Job.State.IN_REVIEW:
                raise DemoError(f"The job ended {job.state} ({job.failure_code}): {job.failure_message}")
            progress = job.progress or {}
            words = str(progress.get("stage") or job.state)
            if progress.get("frames_total"):
                words += f", frame {progress.get('frames_done', 0)} of {progress['frames_total']}"
            self.show(words, float(progress.get("fraction", 0.0)))
            time.sleep(POLL_SECONDS)


def listed(asset: Asset) -> str:
    """The faces of an asset to pick from, one a line: number, size in pixels, and where it is."""
    lines = []
    for face in asset.faces:
        x, y, width, height = face["box"]
        lines.append(
            f"  {face['index']}: {width:.0f} x {height:.0f} pixels, {x:.0f} from the left, {y:.0f} from the top"
        )
    return "\n".join(lines)
