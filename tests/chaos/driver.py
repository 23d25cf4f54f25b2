"""Runs inside a test's own house (a child process with its settings): a JSON request per line, an answer per line."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.chaos import driver_browser, driver_forgetting
from tests.chaos.driver_forgetting import find_cleo

PASSWORD = "correct horse battery staple"


def migrate() -> None:
    """Make both databases."""
    from django.core.management import call_command

    for database in ("default", "keys"):
        call_command("migrate", database=database, verbosity=0, interactive=False, run_syncdb=True)


def people() -> dict[str, Any]:
    """Cleo of an organisation, and a moderator of the house."""
    from webapp.accounts import services

    organisation = services.create_organisation("Cleo's studio")
    services.create_user(email="cleo@example.org", password=PASSWORD, organisation=organisation)
    services.create_user(email="mod@example.org", password=PASSWORD, organisation=None, moderator=True)
    return {"organisation": organisation.pk}


def upload(path: str, role: str, name: str = "") -> str:
    """Cleo uploads a file; returns the asset's id."""
    from webapp.jobs import services

    cleo = find_cleo()
    asset = services.receive_asset(cleo.organisation, cleo, role=role, file=Path(path), name=name or Path(path).name)
    return asset.pk


def asset(asset_id: str) -> dict[str, Any]:
    from webapp.jobs import services
    from webapp.jobs.models import Asset

    return services.asset_state(Asset.objects.get(pk=asset_id))


def screening(asset_id: str) -> dict[str, Any]:
    """How far the screening of an asset came, and what was kept of it."""
    from webapp.jobs.models import Asset

    found = Asset.objects.get(pk=asset_id)
    return {
        "state": found.state,
        "starts": found.starts,
        "progress": found.progress,
        "records": list(found.screenings.values_list("decision", flat=True)),
        "analysis": bool(found.analysis_name),
        "previews": len(found.previews),
    }


def ask(
    role: str,
    source: str | None = None,
    target: str | None = None,
    *,
    place: int = 0,
    give: bool = True,
    max_outputs: int = 1,
) -> str:
    """Cleo asks a person about the target's face in `place`, who (with `give`) agrees to all of it; the consent's id.

    Without a target, a donor is asked for any.
    """
    from consent import services as consents
    from webapp.jobs.models import Asset

    cleo = find_cleo()
    photos, target_ref = [], None
    if source:
        found = Asset.objects.get(pk=source)
        photos = [consents.PhotoRef(asset_id=found.pk, sha256=found.sha256, face=0)]
    if target:
        found = Asset.objects.get(pk=target)
        target_ref = consents.TargetRef(asset_id=found.pk, sha256=found.sha256, face=found.faces[place]["index"])
    consent, _ = consents.request_consent(
        organisation_id=cleo.organisation.pk,
        organisation_name=cleo.organisation.name,
        requested_by="Cleo",
        role=role,
        name="Ada" if role == "face_donor" else "Ben",
        contact="",
        purposes=["personal"],
        photos=photos,
        target=target_ref,
        max_outputs=max_outputs,
        livemode=False,
    )
    if give:
        agree(consent.pk)
    return consent.pk


def agree(consent_id: str) -> str:
    """The person ticks everything and signs."""
    from consent import services as consents
    from consent.models import Consent

    consent = Consent.objects.get(pk=consent_id)
    notice = consents.consent_text(consent, consent.locale)
    given = consents.give_consent(
        consent,
        ticks={name: True for name, _ in notice.boxes},
        typed_name="Ada Example",
        confirmed_photos=consent.photo_sha256s,
        notice_sha256=notice.sha256,
    )
    return given.state


def withdraw(consent_id: str) -> str:
    from consent import services as consents
    from consent.models import Consent

    return consents.withdraw_consent(Consent.objects.get(pk=consent_id)).state


def revoke(consent_id: str, reason: str) -> str:
    """The operator ends a permission, as on the command line."""
    from django.core.management import call_command

    call_command("consents", "revoke", consent_id, "--reason", reason)
    from consent.models import Consent

    return Consent.objects.get(pk=consent_id).state


def key() -> str:
    """A partner key of Cleo's."""
    from webapp.accounts import services

    return services.issue_api_key(find_cleo().organisation, name="tests")[1]


def retain_now() -> None:
    """Have a worker do what the scheduler asks of it each ten minutes."""
    from webapp.celery import app

    app.send_task("worker.retain", queue="ctl")


def partial_files() -> list[str]:
    """Whatever lies in a job's work folder."""
    from webapp.jobs import workfolder

    root = workfolder.root()
    return sorted(path.name for path in root.rglob("*") if path.is_file()) if root.is_dir() else []


def uses(consent_id: str) -> dict[str, int]:
    """How many uses of a consent are in which state."""
    from consent.models import Use

    found: dict[str, int] = {}
    for state in Use.objects.filter(consent=consent_id).values_list("state", flat=True):
        found[state] = found.get(state, 0) + 1
    return found


def submit(source: str, target: str, donor: str, person: str, options: dict[str, Any] | None = None) -> str:
    """Cleo submits a job of one replacement; returns its id."""
    return submit_pairs(target, [[source, 0, donor, person]], options)


def submit_pairs(target: str, pairs: list[list[Any]], options: dict[str, Any] | None = None) -> str:
    """Cleo submits a job; each pair is a source, the place of the target's face, and the two consents. Its id."""
    from consent import services as consents
    from consent.models import Consent
    from webapp.jobs import services
    from webapp.jobs.models import Asset

    cleo = find_cleo()
    declared = consents.attest_declaration(
        organisation_id=cleo.organisation.pk,
        made_by=str(cleo.pk),
        ticks={name: True for name, _ in consents.declaration_text("en").boxes},
    )
    scene = Asset.objects.get(pk=target)
    swaps = [
        services.SwapWanted(
            scene.faces[place]["index"],
            [(Asset.objects.get(pk=source), 0)],
            Consent.objects.get(pk=donor),
            Consent.objects.get(pk=person),
        )
        for source, place, donor, person in pairs
    ]
    made = services.submit_job(
        cleo.organisation,
        cleo,
        target=scene,
        swaps=swaps,
        declaration=declared,
        purpose="personal",
        options=options or {},
        livemode=False,
    )
    return made.pk


def job(job_id: str) -> dict[str, Any]:
    """The job as the API shows it, with its starts, its events and how many outputs it has."""
    from webapp.jobs import services
    from webapp.jobs.models import Job, Output, Segment

    found = Job.objects.get(pk=job_id)
    events = list(found.events.values_list("from_state", "to_state", "code"))
    return {
        **services.job_state(found),
        "starts": found.starts,
        "lease_owner": found.lease_owner,
        "events": [list(event) for event in events],
        "outputs": Output.objects.filter(job=found).count(),
        "segments": list(
            Segment.objects.filter(job=found).values("number", "state", "frames_done", "starts", "lease_owner")
        ),
    }


def set_mark(job_id: str, mark: str) -> None:
    """As if the job had drawn this mark (hexadecimal)."""
    from webapp.jobs.models import Job

    assert Job.objects.filter(pk=job_id, mark_id=None).update(mark_id=bytes.fromhex(mark))


def free_mark(job_id: str) -> None:
    """Let another job's output carry the mark of this one's."""
    import secrets

    from webapp.jobs.models import Output

    assert Output.objects.filter(job=job_id).update(mark_id=secrets.token_bytes(8))


def damage_part(job_id: str, number: int, gone: bool = False) -> None:
    """Flip one byte in the middle of a stored part, or lose it."""
    from webapp import storage
    from webapp.jobs.models import Segment

    path = storage._place(Segment.objects.get(job=job_id, number=number).object_name)
    if gone:
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cancel(job_id: str) -> str:
    from webapp.jobs import services
    from webapp.jobs.models import Job

    return services.cancel_job(Job.objects.get(pk=job_id)).state


def output(job_id: str, dest: str) -> dict[str, Any]:
    """Write the published bytes to `dest`; returns what is recorded, and what reading mark and manifest again says."""
    from watermark import image, manifest, video
    from webapp import keys_of_house
    from webapp.jobs import services
    from webapp.jobs.models import Output
    from worker.media import client

    found = Output.objects.get(job=job_id)
    with services.output_file(found) as file:
        Path(dest).write_bytes(file.read())
    keys = keys_of_house.mark_keys()
    if found.mime.startswith("image/"):
        reading: Any = image.read(client.decode_image(Path(dest)), keys)
    else:
        with client.open_frames(Path(dest)) as frames:
            reading = video.read(frames, keys)
    credentials = manifest.read(Path(dest), found.mime, anchors_pem=keys_of_house.anchors_pem())
    return {
        **services.output_state(found),
        "mark_recorded": bytes(found.mark_id).hex(),
        "mark_read": reading.mark_id.hex() if reading else None,
        "credentials": credentials.state,
        "is_ours": credentials.is_ours,
        "mark_in_manifest": [mark.hex() for mark in credentials.mark_ids],
        "fingerprints": len(found.fingerprint.get("frames", [])),
    }


def output_refused(job_id: str) -> str:
    """The code with which the published bytes are refused; "" if they are not."""
    from webapp.jobs import services
    from webapp.jobs.models import Output

    try:
        services.output_file(Output.objects.get(job=job_id)).close()
    except services.JobsError as error:
        return error.code
    return ""


def objects(prefix: str) -> int:
    """How many stored objects of a kind there are."""
    from django.conf import settings

    return sum(1 for path in (settings.HOME / "objects" / prefix).glob("*/*") if path.is_file())


def work_folders() -> int:
    """How many work folders there are."""
    from webapp.jobs import workfolder

    return len(list(workfolder.root().iterdir())) if workfolder.root().is_dir() else 0


def by_command(source: str, target: str) -> str:
    """What `manage.py demo --source --target` says in the end, with the worker that runs already; "" if it is done."""
    from types import SimpleNamespace

    from webapp.commands.mainjob import DemoError, MainJob, Person
    from webapp.jobs.errors import JobsError

    cleo = find_cleo()
    no_worker: Any = SimpleNamespace(check=lambda: None)
    job = MainJob(cleo.organisation, cleo, no_worker, lambda words, fraction: None)
    ada, ben = Person("Ada", "ada@example.org"), Person("Ben", "ben@example.org")
    try:
        job.run(source=Path(source), target=Path(target), donor=ada, replaced=ben, out=Path(target).with_suffix(".out"))
    except DemoError as error:
        return str(error)
    except JobsError as error:
        return f"{error} ({error.code})"
    return ""


def verify(path: str) -> dict[str, Any]:
    """POST /v1/verifications, as anybody may; the command `verify` prints the same."""
    from webapp.verify import services

    return services.verdict_body(services.verify_file(Path(path)))


def limit_files(size: int) -> None:
    """From now on a file that grows beyond `size` bytes fails as on a full disk; 0 lifts the limit.

    Nor does the garbage collector tidy up behind anybody meanwhile: what is left by chance would be gone by chance.
    """
    import gc
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size or hard, hard))
    (gc.disable if size else gc.enable)()


def age_queue(minutes: int) -> None:
    """As if everything had been sent that long ago."""
    from django.db.models import F

    from webapp.jobs.models import Asset, Job, Segment

    for model in (Asset, Job, Segment):
        model.objects.exclude(queued_at=None).update(queued_at=F("queued_at") - timedelta(minutes=minutes))


def preview(asset_id: str, face: int, dest: str) -> dict[str, Any]:
    """The small picture of a face, as the person asked for consent sees it."""
    from PIL import Image

    from webapp.jobs import services

    Path(dest).write_bytes(services.asset_preview(asset_id, face))
    with Image.open(dest) as picture:
        return {"size": list(picture.size), "format": picture.format}


def release_all() -> list[list[str]]:
    """The moderator releases every open review; returns the reasons each had."""
    from webapp.accounts.models import User
    from webapp.screening import services

    moderator = User.objects.get(email="mod@example.org")
    found = []
    for review in services.waiting():
        found.append(review.screening.reasons)
        services.release_review(review, moderator, "looked at it")
    return found


def tick() -> None:
    from webapp.jobs import upkeep

    upkeep.tick()


def can_write() -> bool:
    """False if another process holds the database's write lock for longer than any of ours does on purpose."""
    from django.db import OperationalError, connection, transaction

    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 2000")
        try:
            with transaction.atomic():
                return True
        except OperationalError:
            return False
        finally:
            cursor.execute("PRAGMA busy_timeout = 20000")


def attempts() -> int:
    """How often the most tried of the unsent messages was tried."""
    from webapp.outbox.models import OutboxMessage

    return max(OutboxMessage.objects.filter(sent_at=None).values_list("attempts", flat=True), default=0)


def unsent() -> int:
    """How many outbox messages have not left."""
    from webapp.outbox.models import OutboxMessage

    return OutboxMessage.objects.filter(sent_at=None).count()


def main() -> None:
    import django

    django.setup()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints must not be taken for an answer
    functions = {**vars(driver_browser), **vars(driver_forgetting), **globals()}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": functions[request["do"]](**request["args"])}
        except Exception as error:
            answer = {"error": type(error).__name__, "code": getattr(error, "code", ""), "text": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
