"""Who may open which page."""

from __future__ import annotations

import re

import pytest
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from tests.webapp import cast
from webapp.pages.failures import not_found

pytestmark = pytest.mark.django_db

GETS = ["", "/state", "/result", "/before", "/output", "/links/cns_x.png"]
POSTS = ["/cancel", "/links/hide"]


@pytest.mark.parametrize("path", ["/", "/new", "/new/check", "/new/faces", "/new/permission", "/jobs/job_x"])
def test_a_stranger_is_asked_to_log_in(path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login?next=")


@pytest.mark.parametrize("path", ["/verify", "/login", "/healthz", "/v1/schema"])
def test_public_pages_need_no_account(path: str) -> None:
    assert Client().get(path).status_code == 200


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/verify/", "/verify"),
        ("/login/?next=/new", "/login?next=/new"),
        ("/retention//", "/retention"),
        ("/verify/r/a%3Fb/", "/verify/r/a%3Fb"),
    ],
)
def test_a_slash_too_many_leads_to_the_page(typed: str, meant: str) -> None:
    answer = Client().get(typed)
    assert (answer.status_code, answer["Location"]) == (302, meant)


@pytest.mark.parametrize("path", ["//", "//verify/", "//elsewhere.example/", "/nothing/", "/verify/nothing/"])
def test_a_slash_too_many_leads_nowhere_else(path: str) -> None:
    request = RequestFactory().get("/")
    request.path = path  # the client would take "//verify" for a host
    assert not_found(request).status_code == 404


def test_what_is_sent_to_an_address_with_a_slash_too_many_is_not_led_on() -> None:
    assert Client().post("/verify/").status_code == 404


@pytest.mark.parametrize("tail", GETS)
def test_another_organisations_job_is_not_there(cleo: cast.Account, dan: cast.Account, tail: str) -> None:
    job = cast.published(cleo).job
    tail = tail.replace("cns_x", cast.donor(job).pk)
    own = cleo.browser.get(f"/jobs/{job.pk}{tail}").status_code
    # The QR code is only there for the session that asked.
    assert own == (404 if "links" in tail else 200)
    assert dan.browser.get(f"/jobs/{job.pk}{tail}").status_code == 404


@pytest.mark.parametrize("tail", POSTS)
def test_another_organisations_job_cannot_be_changed(cleo: cast.Account, dan: cast.Account, tail: str) -> None:
    job = cast.submitted(cleo)
    assert dan.browser.post(f"/jobs/{job.pk}{tail}").status_code == 404
    before = job.state
    job.refresh_from_db()
    assert job.state == before


def test_another_organisations_files_cannot_be_used(cleo: cast.Account, dan: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    query = f"source={source.pk}&target={target.pk}"
    for page in ("/new", "/new/check", "/new/faces", "/new/permission"):
        assert cleo.browser.get(f"{page}?{query}").status_code == 200
        assert dan.browser.get(f"{page}?{query}").status_code == 404
    assert dan.browser.post("/new/permission", {"source": source.pk, "target": target.pk}).status_code == 404
    assert cleo.browser.get(f"/assets/{source.pk}/preview/0").status_code == 200
    assert dan.browser.get(f"/assets/{source.pk}/preview/0").status_code == 404


def test_a_source_cannot_be_passed_off_as_a_target(cleo: cast.Account) -> None:
    source = cast.ready(cleo, "source")
    assert cleo.browser.get(f"/new/check?source={source.pk}&target={source.pk}").status_code == 404


@pytest.mark.parametrize("path", ["/new", "/new/permission", "/jobs/job_x/cancel", "/logout", "/verify", "/login"])
def test_a_form_from_elsewhere_is_refused(cleo: cast.Account, path: str) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cleo.user)
    answer = browser.post(path, {})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/jobs/%00", "/assets/%00/preview/0", "/new/check?source=%00", "/?before=%00"])
def test_a_nul_byte_finds_nothing(cleo: cast.Account, path: str) -> None:
    assert cleo.browser.get(path).status_code == 404


@pytest.mark.parametrize("name", ["pages:job_cancel", "pages:job_hide_links"])
def test_what_changes_something_is_not_a_link(cleo: cast.Account, name: str) -> None:
    job = cast.submitted(cleo)
    answer = cleo.browser.get(reverse(name, args=[job.pk]))
    assert answer.status_code == 405
    assert answer["Allow"] == "POST"


def test_a_moderator_is_sent_to_the_console() -> None:
    _, browser = cast.moderator()
    assert browser.get("/").headers["Location"] == "/console/reviews"


def test_log_in_by_address_and_password_leads_back(cleo: cast.Account) -> None:
    browser = Client()
    wrong = browser.post("/login", {"username": "cleo@example.org", "password": "no"})
    unknown = browser.post("/login", {"username": "nobody@example.org", "password": "no"})
    text = "The address or the password is not right."
    assert text in wrong.content.decode()
    assert text in unknown.content.decode()
    answer = browser.post("/login", {"username": " CLEO@example.org", "password": cast.PASSWORD, "next": "/new"})
    assert answer["Location"] == "/new"
    elsewhere = {"username": "cleo@example.org", "password": cast.PASSWORD, "next": "https://elsewhere.example/"}
    assert Client().post("/login", elsewhere)["Location"] == "/"


def test_a_page_is_of_one_language_whatever_the_browser_prefers(cleo: cast.Account) -> None:
    output = cast.published(cleo)
    html = cleo.browser.get(f"/jobs/{output.job_id}/result", headers={"Accept-Language": "zh-CN"}).content.decode()
    assert '<html lang="en">' in html
    assert f"AI-edited on {output.published_at:%-d %B %Y}" in html


def test_an_account_without_an_organisation_is_told_so(cleo: cast.Account) -> None:
    cleo.user.organisation = None
    cleo.user.save()
    answer = cleo.browser.get("/")
    assert answer.status_code == 403
    assert "Not for this account" in answer.content.decode()


def test_a_suspended_organisation_gets_no_page(cleo: cast.Account) -> None:
    cleo.organisation.suspended_at = timezone.now()
    cleo.organisation.save()
    assert cleo.browser.get("/").status_code == 403
    assert cleo.browser.post("/new", {}).status_code == 403


def test_guessing_passwords_is_slowed_down(cleo: cast.Account) -> None:
    browser = Client()
    for _ in range(10):
        browser.post("/login", {"username": "cleo@example.org", "password": "no"})
    answer = browser.post("/login", {"username": "cleo@example.org", "password": cast.PASSWORD})
    assert "Too many wrong answers" in answer.content.decode()


def test_no_page_has_inline_code_or_style(cleo: cast.Account) -> None:
    job = cast.published(cleo).job
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target")
    query = f"source={source.pk}&target={target.pk}"
    pages = ["/", "/new", f"/new/check?{query}", f"/new/faces?{query}", f"/new/permission?{query}", "/verify"]
    for path in [*pages, f"/jobs/{job.pk}", f"/jobs/{job.pk}/result", "/nothing"]:
        answer = cleo.browser.get(path)
        html = answer.content.decode()
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", html), path
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html)), path
        policy = answer["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        # The verify page reads in the browser with WebAssembly; nothing else may.
        assert "unsafe" not in (policy.replace("'wasm-unsafe-eval'", "") if path == "/verify" else policy), path


@pytest.mark.parametrize("path", ["/login", "/verify", "/retention", "/nowhere", "/v1/schema"])
def test_no_page_may_ask_for_a_camera(path: str) -> None:
    assert Client().get(path)["Permissions-Policy"].startswith("camera=()")
