"""Protected persons: entered and removed by a moderator with a reason, at most as many as can be told apart."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from consent import keys
from consent.errors import ConsentError
from consent.models import Subject
from consent.portal.models import Wishes
from consent.subjects import subject_for
from tests.worker.gate import pictures
from webapp.commands import gate_faces
from webapp.jobs import services as jobs
from webapp.screening import face_list
from webapp.screening.listed import ListedFace
from webapp.screening.models import ScreeningRecord
from worker import tasks
from worker.inference.client import stop_engine

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> Iterator[None]:
    """The engine that the tasks start ends with these tests."""
    from django.conf import settings

    yield
    stop_engine(Path(settings.HOME))


def called(*arguments: str) -> str:
    out = StringIO()
    call_command("gate", "faces", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_a_protected_persons_face_goes_to_a_person_until_it_is_taken_off(
    stage: Any, engine: None, tmp_path: Path, astronaut: pictures.Rgb
) -> None:
    assert "Nobody" in called("list")
    said = called("add", str(SAMPLES / "astronaut.jpg"), "--reason", "court order 7, GDPR 9(2)(f)")
    entry = ListedFace.objects.get()
    assert entry.pk in said
    tasks.enrol_block(entry.pk)
    assert "protected  listed" in called("list")
    other = pictures.saved(astronaut[:, 20:490], tmp_path / "other.jpg")
    asset = jobs.receive_asset(stage.studio, stage.cleo, role="source", file=other, name="x.jpg")
    tasks.screen_asset(asset.pk)
    assert ScreeningRecord.objects.get(asset=asset).reasons == ["listed_face"]
    called("remove", entry.pk, "--reason", "order lifted")
    assert not ListedFace.objects.exists()
    with pytest.raises(keys.KeyDestroyedError):
        keys.data_key(entry.key_id)


@pytest.mark.django_db
def test_only_a_moderator_with_a_reason_and_never_more_than_can_be_told_apart(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = SAMPLES / "astronaut.jpg"
    for moderator, reason, code in ((stage.cleo, "why", "moderator_required"), (stage.mod, " ", "reason_required")):
        with pytest.raises(ConsentError) as refused:
            face_list.protect(photo, moderator=moderator, reason=reason)
        assert refused.value.code == code
    monkeypatch.setattr(gate_faces, "MOST", 2)
    for _ in range(2):
        called("add", str(photo), "--reason", "court order")
    with pytest.raises(CommandError, match="list_full"):
        called("add", str(photo), "--reason", "court order")
    assert ListedFace.objects.filter(protected=True).count() == 2
    gone = ListedFace.objects.order_by("pk")[0]
    called("remove", gone.pk, "--reason", "room")
    with pytest.raises(CommandError, match="cannot be read"):
        called("add", str(photo.with_name("none.jpg")), "--reason", "court order")


@pytest.mark.django_db
def test_a_persons_own_limit_holds_and_their_own_entry_is_not_the_moderators(stage: Any) -> None:
    photo = SAMPLES / "astronaut.jpg"
    subject: Subject = subject_for("eileen@example.org")
    entry = face_list.protect(photo, moderator=stage.mod, reason="asked by phone", contact="Eileen@example.org")
    assert entry.subject == subject
    ListedFace.objects.filter(pk=entry.pk).update(protected=False)
    with pytest.raises(ConsentError) as refused:
        face_list.unprotect(entry.pk, moderator=stage.mod, reason="tidy up")
    assert refused.value.code == "entry_missing"
    Wishes.objects.update_or_create(subject=subject, defaults={"limited_at": entry.created_at})
    with pytest.raises(ConsentError) as refused:
        face_list.protect(photo, moderator=stage.mod, reason="again", contact="eileen@example.org")
    assert refused.value.code == "biometrics_limited"
