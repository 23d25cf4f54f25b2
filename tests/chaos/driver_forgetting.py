"""The part of `driver` that asks a person by mail, erases them, and searches the house for what is left."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def find_cleo() -> Any:
    """Who uploads."""
    from webapp.accounts.models import User

    return User.objects.select_related("organisation").get(email="cleo@example.org")


def ask_person(role: str, asset_id: str, *, person: str, contact: str, note: str, signs: str) -> dict[str, str]:
    """Cleo asks somebody by mail, who agrees and signs; the consent's and the person's id."""
    from consent import services as consents
    from webapp.jobs.models import Asset

    cleo = find_cleo()
    found = Asset.objects.get(pk=asset_id)
    donor = role == "face_donor"
    consent, _ = consents.request_consent(
        organisation_id=cleo.organisation.pk,
        organisation_name=cleo.organisation.name,
        requested_by="Cleo",
        role=role,
        name=person,
        contact=contact,
        note=note,
        purposes=["personal"],
        photos=[consents.PhotoRef(asset_id=found.pk, sha256=found.sha256, face=0)] if donor else [],
        target=None if donor else consents.TargetRef(found.pk, found.sha256, found.faces[0]["index"]),
        livemode=False,
    )
    notice = consents.consent_text(consent, "en")
    consents.give_consent(
        consent,
        ticks={name: True for name, _ in notice.boxes},
        typed_name=signs,
        confirmed_photos=consent.photo_sha256s,
        notice_sha256=notice.sha256,
        user_agent="Mozilla/5.0 Firefox/140.0",
        ip="203.0.113.77",
    )
    return {"consent": consent.pk, "subject": consent.subject_id}


def remark(job_id: str, text: str) -> None:
    """A moderator's words in a job's history, and on its screening."""
    from django.db import transaction
    from django.utils import timezone

    from webapp.jobs import transitions
    from webapp.screening.models import Review, ScreeningRecord

    with transaction.atomic():
        transitions.note(job_id, "remark", text)
        record = ScreeningRecord.objects.filter(job=job_id).first()
        Review.objects.create(
            screening=record, state="released", reason=text, due_at=timezone.now(), decided_at=timezone.now()
        )


def descriptors(asset_id: str, dest: str) -> list[list[float]]:
    """The face descriptors in an upload's stored analysis; its bytes are written to `dest`."""
    from webapp import storage
    from webapp.jobs.models import Asset
    from worker.pipeline.analysis import Analysis

    found = Asset.objects.get(pk=asset_id)
    storage.materialise(found.analysis_name, found.key_id, Path(dest))
    return [list(track.descriptor) for track in Analysis.load(Path(dest)).tracks if track.descriptor is not None]


def erase(subject: str, die_after: str = "") -> dict[str, Any]:
    """Forget a person; with `die_after` the process that does it is killed when that step is done."""
    from dataclasses import asdict

    from consent import erasure
    from consent.models import Subject

    if not die_after:
        return asdict(erasure.erase_subject(Subject.objects.get(pk=subject), by="operator"))
    request = json.dumps({"do": "erase_until", "args": {"subject": subject, "step": die_after}})
    driver = Path(__file__).with_name("driver.py")
    child = subprocess.run([sys.executable, str(driver)], input=request, text=True, capture_output=True, check=False)
    return {"died": child.returncode}


def erase_until(subject: str, step: str) -> None:
    """This process ends when the step is done, as by kill -9."""
    from consent import erasure
    from consent.models import Subject

    def deadly(each: Any) -> Any:
        def run(*args: Any) -> Any:
            yield from each(*args)
            if each.__name__ == step:
                os._exit(9)

        return run

    erasure.STEPS = tuple(deadly(each) for each in erasure.STEPS)
    erasure.erase_subject(Subject.objects.get(pk=subject), by="operator")


def traces(subject: str) -> dict[str, Any]:
    """What the rows and the key store still hold of a person that opens nothing but could lead to them."""
    from consent.models import Consent, DataKey, Subject

    found = Subject.objects.get(pk=subject)
    columns = ("name_sealed", "requested_by_sealed", "note_sealed", "evidence")
    return {
        "contact": bool(found.contact_hmac or found.contact_sealed),
        "columns": [name for name in columns for each in found.consents.all() if getattr(each, name)],
        "states": [each.state for each in Consent.objects.filter(subject=subject)],
        "living_keys": list(DataKey.objects.filter(destroyed_at=None).values_list("owner", flat=True)),
    }


def erasure_state(subject: str) -> str:
    from consent.models import Erasure

    return Erasure.objects.get(subject=subject).state


def read_all(dest: str) -> int:
    """Write to the folder `dest` whatever this house can still read with all keys it has; how many pieces."""
    from django.apps import apps
    from django.conf import settings
    from django.contrib.sessions.models import Session

    from consent import keys
    from consent.models import DataKey, Sealed
    from webapp import storage
    from webapp.api.forgetting import idempotency
    from webapp.api.models import IdempotentRequest

    folder, count = Path(dest), 0
    folder.mkdir()

    def keep(data: bytes) -> None:
        nonlocal count
        (folder / str(count)).write_bytes(data)
        count += 1

    alive = [key for key in DataKey.objects.filter(destroyed_at=None).values_list("pk", flat=True) if key != keys.ROOT]
    root = settings.HOME / "objects"
    for path in root.glob("*/*/*"):
        name = f"{path.parts[-3]}/{path.name}"
        for key_id in alive:
            try:
                storage.materialise(name, key_id, folder / str(count))
                count += 1
                break
            except Exception:
                (folder / str(count)).unlink(missing_ok=True)
    for model in apps.get_models():
        sealed = [field.name for field in model._meta.concrete_fields if field.name.endswith("_sealed")]
        if not issubclass(model, Sealed):
            continue
        for row in model.objects.all():
            for column in sealed:
                with contextlib.suppress(keys.KeyDestroyedError):
                    keep(row.unseal(column.removesuffix("_sealed")).encode())
    for row in IdempotentRequest.objects.exclude(response_sealed=None):
        keep(idempotency.answer_of(row).encode())
    for session in Session.objects.all():
        keep(json.dumps(session.get_decoded()).encode())
    return count


def ledger_holds() -> dict[str, Any]:
    """Every entry is in the tree that a signed checkpoint covers: the entries whose proof does not lead to its root."""
    from consent import ledger
    from consent.ledger import house, notes, sequencer
    from consent.ledger.tree import leaf_hash, verify_inclusion
    from consent.models import LedgerCheckpoint, LedgerEntry

    while ledger.sequence():
        pass
    sequencer.sign_checkpoint()
    head = LedgerCheckpoint.objects.order_by("-size").first()
    assert notes.open_checkpoint(head.note, house.verifiers()).root == bytes(head.root)
    wrong = []
    for entry in LedgerEntry.objects.order_by("seq"):
        proof = ledger.proof(entry)
        if proof is not None:
            leaf = leaf_hash(proof.leaf)
            if verify_inclusion(leaf, proof.index, proof.size, proof.path, bytes(head.root)):
                continue
        wrong.append(entry.pk)
    return {"size": LedgerEntry.objects.count(), "wrong": wrong}


def strays() -> list[str]:
    """Stored objects that belong to no row, rows' objects that are not there, and files left in the work folder."""
    from django.conf import settings

    from webapp.jobs.models import Asset

    names = set()
    for asset in Asset.objects.all():
        names |= {asset.object_name, asset.analysis_name, *asset.previews.values()} - {""}
    root = settings.HOME / "objects"
    there = {f"{path.parts[-3]}/{path.name}" for path in root.glob("*/*/*")}
    work = [str(path) for path in Path(settings.WORK_DIR).rglob("*") if path.is_file()]
    return sorted(names ^ there) + work
