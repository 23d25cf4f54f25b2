"""Files asked about at the page and at the API: what is answered, how long it is kept, and that the file is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from numpy.typing import NDArray

from tests.webapp.core.test_net import NAME, Server, head, send
from tests.webapp.verify.conftest import Published, save
from webapp.jobs import repository, upkeep, workfolder
from webapp.jobs.models import Output
from webapp.verify import kept, services, slots
from webapp.verify.models import Verification

pytestmark = pytest.mark.django_db


def upload(content: bytes, name: str = "holiday.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, "image/png")


def plain_files() -> set[Path]:
    return {path for path in Path(django_settings.WORK_DIR).rglob("*") if path.is_file()}


def finish() -> None:
    """Wait for what is looked at in the background."""
    for thread in threading.enumerate():
        if thread.name.startswith(kept.THREAD_NAME):
            thread.join(60)


def test_the_page_answers_in_plain_words_and_keeps_nothing_of_the_file(grace_published: Published) -> None:
    before = plain_files()
    answer = Client().post("/verify", {"file": upload(grace_published.path.read_bytes())})
    assert answer.status_code == 303
    html = Client().get(answer["Location"]).content.decode()
    assert "<h1" in html
    assert "Edited with AI here" in html
    assert "A face in it was replaced with an AI model." in html
    assert grace_published.mark.hex() in html
    assert "byte for byte the one we published" in html
    assert "by the signer’s own clock" in html
    assert "holiday" not in html
    assert plain_files() == before


def test_an_answer_can_be_read_again_with_the_permission_as_it_is_then(
    grace_published: Published, tmp_path: Path
) -> None:
    copy = save(tmp_path / "copy.jpg", grace_published.rgb, cv2.IMWRITE_JPEG_QUALITY, 80)
    body = Client().post("/v1/verifications", {"file": upload(copy.read_bytes())}).json()
    assert body["code"] == "ours_recovered"
    page = f"/verify/r/{body['id']}"
    assert "our hidden mark is present" in Client().get(page).content.decode()
    Output.objects.filter(pk=grace_published.output.pk).update(
        permission="withdrawn", permission_changed_at=timezone.now()
    )
    assert "Permission was withdrawn" in Client().get(page).content.decode()
    again = Client().get(f"/v1/verifications/{body['id']}").json()
    assert (again["code"], again["output"]["permission"]) == ("ours_withdrawn", "withdrawn")
    saved = Client().get(f"{page}/report.json")
    assert saved["Content-Disposition"].startswith("attachment")
    assert json.loads(saved.content) == again


def test_an_answer_is_forgotten_when_its_time_is_over(grace_published: Published) -> None:
    body = Client().post("/v1/verifications", {"file": upload(grace_published.path.read_bytes())}).json()
    Verification.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for address in (
        f"/verify/r/{body['id']}",
        f"/verify/r/{body['id']}/report.json",
        f"/v1/verifications/{body['id']}",
    ):
        assert Client().get(address).status_code == 404
    upkeep.retention()
    assert Verification.objects.count() == 0


def test_unknown_answers_are_not_found() -> None:
    for name in ("ver_x", "%00", "🎭", "a" * 400):
        assert Client().get(f"/verify/r/{name}").status_code == 404
        assert Client().get(f"/v1/verifications/{name}").status_code == 404


def test_the_api_needs_no_key_and_follows_its_schema(grace_published: Published) -> None:
    body = Client().post("/v1/verifications", {"file": upload(grace_published.path.read_bytes())}).json()
    assert (body["object"], body["state"], body["media"]["kind"]) == ("verification", "done", "photo")
    assert body["output"]["permission"] == "in_force"
    assert body["url"].endswith(f"/verify/r/{body['id']}")
    schema = Client().get("/v1/schema").json()
    shape = schema["components"]["schemas"]["VerificationOut"]
    assert set(shape["required"]) == set(shape["properties"]) == set(body)
    post = schema["paths"]["/v1/verifications"]["post"]
    assert set(post["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert {"200", "202", "413", "422", "429"} <= set(post["responses"])
    assert "/v1/verifications/{verification_id}" in schema["paths"]


def test_a_large_upload_is_looked_at_where_it_lies_and_removed(grace_published: Published, settings: Any) -> None:
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1000  # so that it goes to a temporary file
    uploads = Path(settings.FILE_UPLOAD_TEMP_DIR)
    answer = Client().post("/v1/verifications", {"file": upload(grace_published.path.read_bytes())})
    assert answer.json()["code"] == "ours_intact"
    assert not list(uploads.iterdir())
    assert not list(workfolder.root().glob("verify-*"))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as large."""
    monkeypatch.setattr(kept, "AT_ONCE_BYTES", 10)


@pytest.mark.django_db(transaction=True)
def test_more_than_20_mb_is_answered_later_at_an_address_of_its_own(large: None, grace_published: Published) -> None:
    answer = Client().post("/v1/verifications", {"file": upload(grace_published.path.read_bytes())})
    assert answer.status_code == 202
    assert answer["Location"] == f"/v1/verifications/{answer.json()['id']}"
    assert int(answer["Retry-After"]) > 0
    assert (answer.json()["state"], answer.json()["code"]) == ("running", None)
    finish()
    done = Client().get(answer["Location"])
    assert (done.status_code, done.json()["state"], done.json()["code"]) == (200, "done", "ours_intact")
    assert "Retry-After" not in done
    assert not list(workfolder.root().glob("verify-*"))
    with slots.slot(), slots.slot():  # all given back
        pass


@pytest.mark.django_db(transaction=True)
def test_the_page_waits_for_a_large_file_and_needs_no_javascript_for_it(
    large: None, grace_published: Published
) -> None:
    row = Verification.objects.create(
        expires_at=timezone.now() + timedelta(days=1), alive_until=timezone.now() + timedelta(seconds=30)
    )
    waiting = Client().get(f"/verify/r/{row.pk}").content.decode()
    assert "Looking at it" in waiting
    assert "Look again" in waiting
    answer = Client().post("/verify", {"file": upload(grace_published.path.read_bytes())})
    finish()
    assert "Edited with AI here" in Client().get(answer["Location"]).content.decode()
    assert Client().get(answer["Location"] + "/state").json() == {"page": "done"}


def test_a_process_that_died_with_a_file_is_told_of_and_the_file_swept(samples: Path) -> None:
    script = (
        "import django, os, signal; django.setup()\n"
        "from django.core.files.uploadedfile import SimpleUploadedFile\n"
        "from webapp.verify import services\n"
        "with services.place_for_file() as path:\n"
        "    services.put(SimpleUploadedFile('a.jpg', b'plain bytes'), path)\n"
        "    print(path, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "IMPRIMATUR_HOME": str(django_settings.HOME)}
    killed = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    left = Path(killed.stdout.strip())
    assert left.read_bytes() == b"plain bytes", killed.stderr
    assert upkeep.sweep_folders() >= 1
    assert not left.parent.exists()
    now = timezone.now()
    row = Verification.objects.create(expires_at=now + timedelta(days=1), alive_until=now - timedelta(seconds=1))
    body = Client().get(f"/v1/verifications/{row.pk}").json()
    assert (body["state"], body["failure"]["code"]) == ("failed", "verification_interrupted")
    assert Client().get(f"/verify/r/{row.pk}").status_code == 410


@pytest.mark.django_db(transaction=True)
def test_a_fault_in_the_background_ends_the_answer_and_gives_the_slot_back(
    large: None, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, **_: Any) -> Any:
        raise RuntimeError("inside")

    monkeypatch.setattr(services, "examine", broken)
    body = Client().post("/v1/verifications", {"file": upload((samples / "astronaut.jpg").read_bytes())}).json()
    finish()
    failed = Client().get(f"/v1/verifications/{body['id']}").json()
    assert failed["state"] == "failed"
    assert "inside" not in json.dumps(failed)
    with slots.slot(), slots.slot():
        pass


def test_what_was_found_survives_being_kept(grace_published: Published, tmp_path: Path) -> None:
    copy = save(tmp_path / "copy.jpg", grace_published.rgb, cv2.IMWRITE_JPEG_QUALITY, 70)
    for path in (grace_published.path, copy):
        evidence = services.examine(path).evidence
        kept_as = json.loads(json.dumps(kept.evidence_to_json(evidence)))
        again = kept.evidence_from_json(kept_as)
        assert kept.evidence_to_json(again) == kept.evidence_to_json(evidence)
        assert again.mark == evidence.mark
        assert again.content == evidence.content


def test_the_very_manifest_is_still_known_as_such_when_the_answer_is_read_again(grace_published: Published) -> None:
    """Bytes that decide nothing: only the claim of the manifest tells that it is the one we signed."""
    Output.objects.filter(pk=grace_published.output.pk).update(sha256="0" * 64)
    sent = upload(grace_published.path.read_bytes())
    address = Client().post("/v1/verifications", {"file": sent}).json()["id"]
    for _ in range(2):
        again = Client().get(f"/v1/verifications/{address}").json()
        assert (again["code"], again["reason"]) == ("ours_intact", "")
    assert "Edited with AI here" in Client().get(f"/verify/r/{address}").content.decode()


def test_what_looks_alike_is_shown_with_the_permission_of_today(
    grace_published: Published, grace: NDArray[np.uint8], tmp_path: Path
) -> None:
    repository.record(grace_published.output)
    plain = save(tmp_path / "plain.png", grace).read_bytes()
    body = Client().post("/v1/verifications", {"file": upload(plain)}).json()
    (match,) = body["possible_matches"]
    assert body["code"] == "nothing_found"
    assert "That is no proof" in body["sentence"]
    assert (match["manifest"], match["permission"]) == (grace_published.output.manifest_label, "in_force")
    Output.objects.filter(pk=grace_published.output.pk).update(permission="withdrawn")
    again = Client().get(f"/v1/verifications/{body['id']}").json()
    assert [each["permission"] for each in again["possible_matches"]] == ["withdrawn"]


def test_an_answer_kept_by_another_version_is_said_to_be_none(samples: Path) -> None:
    row = Verification.objects.create(state="done", evidence={"mark": 3}, expires_at=timezone.now() + timedelta(days=1))
    assert Client().get(f"/v1/verifications/{row.pk}").json()["state"] == "failed"
    assert Client().get(f"/verify/r/{row.pk}").status_code == 410


def test_no_file_an_empty_file_and_two_at_once_are_mistakes(samples: Path) -> None:
    page, api = "/verify", "/v1/verifications"
    assert Client().post(page, {}).status_code == 422
    assert Client().post(page, {"file": upload(b"")}).status_code == 422
    both = {"file": upload((samples / "astronaut.jpg").read_bytes()), "url": "https://example.org/"}
    assert Client().post(page, both).status_code == 422
    assert Client().put(page).status_code == 405
    assert Client().post(api, {"file": upload(b"")}).json()["code"] == "verification_input"
    for body in ({}, {"url": []}, {"url": ""}, {"url": "https://x/", "file": "y"}, []):
        assert Client().post(api, json.dumps(body), content_type="application/json").status_code == 400
    assert Verification.objects.count() == 0


def test_more_than_fits_at_once_is_asked_to_come_back(samples: Path) -> None:
    data = (samples / "astronaut.jpg").read_bytes()
    with slots.slot(), slots.slot():
        page = Client().post("/verify", {"file": upload(data)})
        api = Client().post("/v1/verifications", {"file": upload(data)})
    for answer in (page, api):
        assert answer.status_code == 429
        assert int(answer["Retry-After"]) > 0
    assert "Try again in" in page.content.decode()
    assert api.json()["code"] == "busy"
    assert Client().post("/verify", {"file": upload(data)}).status_code == 303


def test_one_address_cannot_ask_without_end() -> None:
    answers = [Client().post("/v1/verifications", {}) for _ in range(31)]
    assert {answer.status_code for answer in answers[:30]} == {400}
    assert answers[30].status_code == 429
    assert int(answers[30]["Retry-After"]) > 0
    page = Client().post("/verify", {})  # counted together
    assert page.status_code == 429
    assert int(page["Retry-After"]) > 0


# --- by address -----------------------------------------------------------------------------------------------------
def by_address(url: str) -> Any:
    return Client().post("/v1/verifications", json.dumps({"url": url}), content_type="application/json")


def test_a_file_can_be_named_by_its_address(elsewhere: Server, grace_published: Published) -> None:
    data = grace_published.path.read_bytes()
    elsewhere.answer = send(head(len(data)), data)
    url = f"https://{NAME}:{elsewhere.port}/picture"
    assert by_address(url).json()["code"] == "ours_intact"
    answer = Client().post("/verify", {"url": url})
    assert "Edited with AI here" in Client().get(answer["Location"]).content.decode()
    assert not list(workfolder.root().glob("verify-*"))


def test_an_address_that_gives_nothing_is_told_with_its_code(elsewhere: Server) -> None:
    url = f"https://{NAME}:{elsewhere.port}/"
    elsewhere.answer = send(head(0, status="404 Not Found"))
    answer = by_address(url)
    assert (answer.status_code, answer.json()["code"]) == (422, "url_answer")
    elsewhere.answer = send(head(6 << 20))
    answer = by_address(url)
    assert (answer.status_code, answer.json()["code"]) == (413, "url_too_large")
    page = Client().post("/verify", {"url": url})
    assert page.status_code == 413
    assert "larger than allowed" in page.content.decode()
    assert Verification.objects.count() == 0


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://2130706433/", "https://[::ffff:10.0.0.1]/"])
def test_addresses_inside_are_not_asked_by_page_or_api(url: str) -> None:
    answer = by_address(url)
    assert (answer.status_code, answer.json()["code"]) == (422, "url_not_public")
    assert Client().post("/verify", {"url": url}).status_code == 422


def test_slow_servers_do_not_take_the_place_of_files_that_are_here(samples: Path) -> None:
    with slots.slot(slots.FETCHES), slots.slot(slots.FETCHES), slots.slot(slots.FETCHES), slots.slot(slots.FETCHES):
        assert by_address("https://127.0.0.1/").status_code == 429
        data = (samples / "astronaut.jpg").read_bytes()
        assert Client().post("/v1/verifications", {"file": upload(data)}).status_code == 200
