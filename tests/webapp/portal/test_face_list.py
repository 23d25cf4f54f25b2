"""The list "never my face" from the person's photo to the reviewer, with the real models, and what is kept of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.test import Client

from consent import keys
from consent.errors import ConsentError
from consent.models import DataKey, Subject
from consent.subjects import subject_for
from consent.texts import face_list_text
from tests.webapp.portal.conftest import Person
from webapp import storage
from webapp.jobs import upkeep
from webapp.outbox.models import OutboxMessage
from webapp.screening import face_list
from webapp.screening.listed import ListedFace
from webapp.screening.models import Review, ScreeningRecord
from worker import tasks
from worker.gate.looks.face_list import FaceList
from worker.inference.client import stop_engine
from worker.pipeline.analysis import Analysis

SAMPLES = Path(__file__).parents[2] / "samples"
ASTRONAUT = SAMPLES / "astronaut.jpg"
GRACE = SAMPLES / "grace_hopper.jpg"


@pytest.fixture
def subject(db: None, tmp_path: Path, settings: Any) -> Subject:
    settings.STORAGE_URL = f"file://{tmp_path / 'objects'}"
    return subject_for("eileen@example.org")


def enrol(subject: Subject, path: Path = ASTRONAUT, **changes: Any) -> ListedFace:
    notice = face_list_text("en")
    given = {"ticks": {"face_list"}, "notice_sha256": notice.sha256, "locale": "en", **changes}
    return face_list.enrol(subject, path, **given)


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> Iterator[None]:
    """The engine that the tasks start ends with these tests."""
    from django.conf import settings

    yield
    stop_engine(Path(settings.HOME))


def dump() -> bytes:
    """Every value of both databases, as bytes."""
    found = bytearray()
    for alias in ("default", "keys"):
        with connections[alias].cursor() as cursor:
            for table in connections[alias].introspection.table_names(cursor):
                cursor.execute(f'SELECT * FROM "{table}"')
                for row in cursor.fetchall():
                    for value in row:
                        found += bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                        found += b"\0"
    return bytes(found)


@pytest.mark.django_db(transaction=True)
def test_a_listed_face_is_stopped_for_a_person_and_another_passes(
    stage: Any, engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    packing = face_list.finish
    monkeypatch.setattr(face_list, "finish", lambda *args, **named: (seen.append(args[2]), packing(*args, **named))[1])

    plain: list[Any] = []
    loading = Analysis.load.__func__  # type: ignore[attr-defined]

    def load(cls: Any, path: Any) -> Any:
        found = loading(cls, path)
        plain.extend(np.asarray(track.descriptor) for track in found.tracks)
        return found

    monkeypatch.setattr(Analysis, "load", classmethod(load))
    subject = subject_for("eileen@example.org")
    entry = enrol(subject)
    photo, photo_key = entry.photo_name, entry.photo_key_id
    assert storage.exists(photo)
    tasks.enrol_block(entry.pk)
    entry.refresh_from_db()
    assert (entry.state, entry.failure_code) == ("listed", "")

    # The photo and its key are gone; of the descriptor only sealed bytes are anywhere.
    assert not storage.exists(photo)
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(photo_key)
    (packed,), descriptor = seen, plain[-1]
    everything = dump()
    for kind in ("<f4", "<f8", ">f4", ">f8"):
        assert descriptor.astype(kind).tobytes() not in everything
        assert descriptor.astype(kind).tobytes()[:24] not in everything
    assert packed not in everything
    assert packed[:24] not in everything
    for number in descriptor[:4]:
        assert f"{number:.6f}".encode() not in everything
    assert face_list.load(entry.model_sha256)[0] == [packed]

    # Another picture of the same face: turned round, smaller, darker, compressed.
    picture = cv2.flip(cv2.imread(str(ASTRONAUT)), 1)
    picture = cv2.convertScaleAbs(cv2.resize(picture, None, fx=0.9, fy=0.9), alpha=0.9, beta=-6)
    changed = tmp_path / "changed.jpg"
    cv2.imwrite(str(changed), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    from webapp.jobs import services as jobs

    uploads = {
        name: jobs.receive_asset(stage.studio, stage.cleo, role=role, file=path, name="x.jpg")
        for name, role, path in (("hers", "source", changed), ("other", "source", GRACE))
    }
    for asset in uploads.values():
        tasks.screen_asset(asset.pk)
        asset.refresh_from_db()
    assert (uploads["hers"].state, uploads["other"].state) == ("in_review", "ready")
    record = ScreeningRecord.objects.get(asset=uploads["hers"])
    assert record.reasons == ["listed_face"]
    assert entry.pk not in str(record.signals)
    assert uploads["hers"].failure_message == ""

    console = Client()
    console.force_login(stage.mod)
    page = console.get("/console/reviews").content.decode()
    assert "one in 600 strangers" in page
    assert "1 entry: 0.2% of strangers" in page

    # Off the list: the key is destroyed, and the same picture passes.
    face_list.remove(entry)
    assert ListedFace.objects.count() == 0
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(entry.key_id)
    again = jobs.receive_asset(stage.studio, stage.cleo, role="source", file=changed, name="x.jpg")
    tasks.screen_asset(again.pk)
    again.refresh_from_db()
    assert again.state == "ready"
    assert Review.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["nobody", "two", "no picture"])
def test_a_photo_without_one_clear_face_makes_no_entry_and_is_destroyed(
    stage: Any, engine: None, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "photo.jpg"
    if kind == "nobody":
        cv2.imwrite(str(path), np.full((400, 400, 3), 128, np.uint8))
    elif kind == "two":
        picture = cv2.imread(str(ASTRONAUT))
        cv2.imwrite(str(path), cv2.hconcat([picture, picture]))
    else:
        path.write_bytes(b"not a picture at all")
    entry = enrol(subject_for("eileen@example.org"), path)
    name = entry.photo_name
    tasks.enrol_block(entry.pk)
    entry.refresh_from_db()
    assert entry.state == "failed"
    expected = {"nobody": "no_face", "two": "several_faces"}
    assert entry.failure_code == expected.get(kind, entry.failure_code)
    assert entry.descriptor_sealed is None
    assert not storage.exists(name)
    assert DataKey.objects.filter(owner=f"listing:{entry.pk}", destroyed_at__isnull=True).count() == 0


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ticks": set()}, "tick_required"),
        ({"notice_sha256": "0" * 64}, "notice_changed"),
        ({"path": "empty"}, "photo_missing"),
        ({"path": "large"}, "photo_too_large"),
    ],
)
def test_without_the_tick_or_a_photo_nothing_is_kept(
    subject: Subject, tmp_path: Path, settings: Any, changes: dict[str, Any], code: str
) -> None:
    if name := changes.pop("path", ""):
        settings.MAX_PHOTO_BYTES = 1000
        changes["path"] = tmp_path / name
        changes["path"].write_bytes(b"" if name == "empty" else b"x" * 1001)
    with pytest.raises(ConsentError) as refused:
        enrol(subject, **changes)
    assert refused.value.code == code
    assert ListedFace.objects.count() == 0
    assert OutboxMessage.objects.count() == 0
    assert not list((tmp_path / "objects").rglob("*/*/*"))


@pytest.mark.django_db(transaction=True)
def test_an_interrupted_entry_starts_again_and_one_that_waits_too_long_is_given_up(stage: Any) -> None:
    from datetime import timedelta

    from django.utils import timezone

    entry = enrol(subject_for("eileen@example.org"))
    assert face_list.claim(entry.pk, "dead") is not None
    assert face_list.claim(entry.pk, "other") is None
    ListedFace.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    upkeep.retention()
    entry.refresh_from_db()
    assert entry.state == "waiting"
    late = face_list.finish(entry, "dead", b"x" * 512, model_sha256="m", key_id="k")
    assert late is False
    ListedFace.objects.update(queued_at=timezone.now() - timedelta(minutes=2))
    OutboxMessage.objects.all().delete()
    upkeep.retention()
    assert OutboxMessage.objects.get().topic == "task"
    ListedFace.objects.update(created_at=timezone.now() - timedelta(days=2))
    upkeep.retention()
    photo = entry.photo_name
    entry.refresh_from_db()
    assert (entry.state, entry.failure_code) == ("failed", "waited_too_long")
    assert not storage.exists(photo)


@pytest.mark.django_db(transaction=True)
def test_erasing_a_person_takes_them_off_the_list(stage: Any) -> None:
    from consent.erasure import erase_subject

    subject = subject_for("eileen@example.org")
    waiting = enrol(subject)
    fill(subject, 1)
    listed = ListedFace.objects.exclude(pk=waiting.pk).get()
    report = erase_subject(subject, by="person")
    assert report.finished
    assert ListedFace.objects.count() == 0
    assert not storage.exists(waiting.photo_name)
    for key_id in (waiting.key_id, waiting.photo_key_id, listed.key_id):
        with pytest.raises(keys.KeyDestroyedError):
            keys.data_key(key_id)
    assert any("list of faces" in line.what for line in report.destroyed)


def fill(subject: Subject, count: int) -> None:
    """`count` entries with random descriptors, as `finish` leaves them, made at once with the key store's parts."""
    from consent import envelope, masters
    from worker.gate.looks.face_list import turned

    key_id, key = face_list.list_key()
    master = masters.current()
    rows = turned(np.random.default_rng(3).standard_normal((count, 128)) / 11.3, key)
    stored, entries = [], []
    for row in rows:
        entry = ListedFace(subject=subject, state="listed", model_sha256="m", list_key_id=key_id)
        secret = os.urandom(32)
        made = DataKey(owner=f"listed:{entry.pk}", master=masters.fingerprint(master))
        made.wrapped = keys._wrap(master, made.pk, secret)
        entry.key_id = made.pk
        entry.descriptor_sealed = envelope.seal(
            secret, keys._bound(made.pk, face_list.place(entry.pk)), row.astype("<f4").tobytes()
        )
        stored.append(made)
        entries.append(entry)
    DataKey.objects.bulk_create(stored, batch_size=500)
    ListedFace.objects.bulk_create(entries, batch_size=500)


@pytest.mark.django_db
def test_the_list_is_opened_whole_or_not_at_all(subject: Subject) -> None:
    fill(subject, 5)
    packed, key = face_list.load("m")
    assert len(FaceList.of(packed, key).entries) == 5
    with pytest.raises(keys.KeyMissingError):
        face_list.load("another model")
    first, second = ListedFace.objects.order_by("pk")[:2]
    keys.destroy_key(first.key_id)
    assert len(face_list.load("m")[0]) == 4
    ListedFace.objects.filter(pk=second.pk).update(descriptor_sealed=first.descriptor_sealed)
    with pytest.raises(keys.TamperedError):
        face_list.load("m")


@pytest.mark.django_db
def test_a_list_that_cannot_be_opened_asks_a_person(subject: Subject) -> None:
    from worker.listing import measure_listed

    fill(subject, 1)  # by another model than the one installed
    signal = measure_listed(Analysis.__new__(Analysis))
    assert (signal.status, signal.value["code"]) == ("error", "key_missing")


@pytest.mark.soak
@pytest.mark.django_db
def test_ten_thousand_entries_are_opened_and_compared_in_seconds(subject: Subject) -> None:
    import time

    fill(subject, 10_000)
    start = time.perf_counter()
    packed, key = face_list.load("m")
    opened = time.perf_counter()
    nearest = FaceList.of(packed, key).nearest(np.random.default_rng(5).standard_normal((10, 128)) / 11.3)
    compared = time.perf_counter()
    print(f"opened in {opened - start:.2f} s, 10 faces compared in {compared - opened:.3f} s")  # noqa: T201
    assert len(nearest) == 10
    assert compared - start < 10


@pytest.mark.django_db(transaction=True)
def test_the_page_takes_a_photo_with_its_own_tick_and_gives_it_back(stage: Any) -> None:
    consent = stage.ask("face_donor", stage.ready("source"), contact="eileen@example.org")
    person = Person("eileen@example.org", consent, None)  # type: ignore[arg-type]
    person.enter()
    page = person.browser.get("/me/face").content.decode()
    assert "About one in 600 strangers" in page
    sha256 = face_list_text("en").sha256
    photo = lambda: SimpleUploadedFile("me.jpg", ASTRONAUT.read_bytes(), "image/jpeg")  # noqa: E731
    refused = person.browser.post("/me/face", {"photo": photo(), "notice_sha256": sha256})
    assert refused.status_code == 422
    assert person.browser.post("/me/face", {"tick": "face_list", "notice_sha256": sha256}).status_code == 422
    assert ListedFace.objects.count() == 0
    form = {"photo": photo(), "notice_sha256": sha256, "tick": "face_list"}
    assert person.browser.post("/me/face", form).status_code == 303
    entry = ListedFace.objects.get()
    assert b"waits to be read" in person.browser.get("/me/face").content
    for _ in range(2):
        assert person.browser.post("/me/face", {**form, "photo": photo()}).status_code == 303
    assert person.browser.post("/me/face", {**form, "photo": photo()}).status_code == 409
    assert person.browser.post(f"/me/face/{entry.pk}/remove").status_code == 303
    assert not storage.exists(entry.photo_name)
    person.browser.post("/me/limit", {"limit": "1"})
    assert ListedFace.objects.count() == 0
    assert person.browser.post("/me/face", {**form, "photo": photo()}).status_code == 409
    assert connection.vendor in {"sqlite", "postgresql"}
