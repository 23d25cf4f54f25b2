"""One job: progress, end, result."""

from __future__ import annotations

import pytest
from django.utils import timezone

from consent import services as consents
from tests.webapp import cast
from webapp.jobs.models import Job, Output

pytestmark = pytest.mark.django_db


def test_the_state_changes_its_page_name_when_somebody_answers(cleo: cast.Account) -> None:
    job = cast.submitted(cleo)
    before = cleo.browser.get(f"/jobs/{job.pk}/state").json()
    consents.view_consent(cast.donor(job))
    after = cleo.browser.get(f"/jobs/{job.pk}/state").json()
    assert before["page"] == f"{job.state}:requested.,requested."
    assert after["page"] == f"{job.state}:viewed.,requested."
    html = cleo.browser.get(f"/jobs/{job.pk}").content.decode()
    assert f'data-page="{after["page"]}"' in html


def test_progress_is_told_in_percent_and_words(cleo: cast.Account) -> None:
    job = cast.submitted(cleo)
    progress = {"fraction": 0.5, "stage": "swap", "frames_done": 63, "frames_total": 125, "eta_seconds": 20}
    Job.objects.filter(pk=job.pk).update(state=Job.State.RUNNING, progress=progress)
    found = cleo.browser.get(f"/jobs/{job.pk}/state").json()
    assert (found["percent"], found["words"]) == (50, "Replacing the face, frame 63 of 125, about 20 s left")
    html = cleo.browser.get(f"/jobs/{job.pk}").content.decode()
    assert '<progress max="100" value="50"' in html
    assert 'aria-live="polite"' in html


def test_cancel_ends_the_job(cleo: cast.Account) -> None:
    job = cast.submitted(cleo)
    html = cleo.browser.post(f"/jobs/{job.pk}/cancel", follow=True).content.decode()
    job.refresh_from_db()
    assert job.state == Job.State.CANCELED
    assert "Nothing was published" in html
    assert f"/jobs/{job.pk}/cancel" not in html


def test_a_no_is_told_in_three_parts_and_offers_a_new_start(cleo: cast.Account) -> None:
    job = cast.submitted(cleo)
    consents.refuse_consent(cast.donor(job), block=False)
    html = cleo.browser.get(f"/jobs/{job.pk}").content.decode()
    assert "did not give their consent" in html
    for part in ("What happened", "What was lost", "What you can do"):
        assert f"<dt>{part}</dt><dd>" in html
    assert f"target={job.target_id}" in html
    assert "data-poll" not in html


def test_the_list_shows_newest_first_in_pages(cleo: cast.Account) -> None:
    first = cast.submitted(cleo)
    second = cast.submitted(cleo)
    html = cleo.browser.get("/").content.decode()
    assert html.index(second.pk) < html.index(first.pk)
    older = cleo.browser.get(f"/?before={second.pk}").content.decode()
    assert first.pk in older
    assert second.pk not in older


def test_the_result_shows_credential_mark_and_measure(cleo: cast.Account) -> None:
    output = cast.published(cleo)
    html = cleo.browser.get(f"/jobs/{output.job_id}/result").content.decode()
    for text in (bytes(output.mark_id).hex(), output.manifest_label, "0.38", "data-compare", "Permission in force"):
        assert text in html


def test_a_job_without_a_result_leads_back_to_its_page(cleo: cast.Account) -> None:
    job = cast.submitted(cleo)
    assert cleo.browser.get(f"/jobs/{job.pk}/result")["Location"] == f"/jobs/{job.pk}"


def test_a_withdrawn_result_is_not_shown_any_more(cleo: cast.Account) -> None:
    output = cast.published(cleo)
    Output.objects.filter(pk=output.pk).update(permission="withdrawn", permission_changed_at=timezone.now())
    html = cleo.browser.get(f"/jobs/{output.job_id}/result").content.decode()
    assert "The permission was withdrawn on" in html
    assert "Download" not in html
    assert f"/jobs/{output.job_id}/output" not in html
    assert cleo.browser.get(f"/jobs/{output.job_id}/output").status_code == 410


def test_the_result_comes_whole_or_in_the_range_asked_for(cleo: cast.Account) -> None:
    output = cast.published(cleo)
    address = f"/jobs/{output.job_id}/output"
    data = (cast.SAMPLES / "grace_hopper.jpg").read_bytes()
    whole = cleo.browser.get(address)
    assert b"".join(whole) == data
    assert whole["Content-Length"] == str(len(data))
    part = cleo.browser.get(address, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part["Content-Range"]) == (206, f"bytes 100-199/{len(data)}")
    assert b"".join(part) == data[100:200]
    end = cleo.browser.get(address, headers={"Range": "bytes=-10"})
    assert b"".join(end) == data[-10:]
    none = cleo.browser.get(address, headers={"Range": f"bytes={len(data)}-"})
    assert (none.status_code, none["Content-Range"]) == (416, f"bytes */{len(data)}")
    saved = cleo.browser.get(f"{address}?download=1")
    assert saved["Content-Disposition"] == f'attachment; filename="imprimatur-{output.job_id}.jpg"'
