"""The public page of an output, its badge, its oEmbed: the state as it is, nobody's name, no picture, no script."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from tests.webapp.verify.conftest import Published
from webapp.jobs.models import Output

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(grace_published: Published) -> str:
    return f"/verify/o/{grace_published.output.pk}"


def change(published: Published, state: str) -> None:
    Output.objects.filter(pk=published.output.pk).update(permission=state, permission_changed_at=timezone.now())


def test_the_page_says_what_holds_and_names_nobody(grace_published: Published, address: str) -> None:
    answer = Client().get(address)
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "AI-edited here, with a permission that is in force." in html
    assert grace_published.output.manifest_label in html
    for secret in ("Ada", "Ben", "Cleo", "studio", "example.org", grace_published.output.job_id, "<video"):
        assert secret not in html
    assert "noindex" in answer["X-Robots-Tag"]
    change(grace_published, "withdrawn")
    page = Client().get(address).content.decode()
    assert "The permission was withdrawn on " in page
    assert "Please do not share." in page
    change(grace_published, "revoked")
    assert "The operator ended the permission on " in Client().get(address).content.decode()
    change(grace_published, "taken_down")
    assert "This was taken down. Please do not share." in Client().get(address).content.decode()


def test_the_pages_run_no_script_of_their_own_text(address: str) -> None:
    """Strict policy; WebAssembly is allowed on the page that reads in the browser, and nowhere else."""
    for page in (address, "/verify"):
        answer = Client().get(page)
        policy = answer["Content-Security-Policy"]
        assert ("'wasm-unsafe-eval'" in policy) == (page == "/verify")
        assert "'unsafe-inline'" not in policy
        assert "'unsafe-eval'" not in policy
        html = answer.content.decode()
        assert not re.findall(r"<script(?![^>]*\ssrc=)", html)
        assert not re.findall(r"\s(on\w+|style)=", html)


def test_the_badge_is_a_picture_of_the_state_cached_briefly(grace_published: Published, address: str) -> None:
    for state, words in (("in_force", "permission in force"), ("withdrawn", "permission withdrawn")):
        change(grace_published, state)
        answer = Client().get(f"{address}/badge.svg")
        assert answer["Content-Type"].startswith("image/svg+xml")
        assert answer["Cache-Control"] == "public, max-age=60"
        drawing = ET.fromstring(answer.content)
        assert drawing.attrib["aria-label"] == f"AI-edited, {words}"
        assert not [each for each in drawing.iter() if each.tag.endswith(("script", "foreignObject", "image"))]


def test_oembed_is_found_from_the_page_and_is_a_link_around_the_badge(address: str) -> None:
    html = Client().get(address).content.decode()
    link = re.search(r'<link rel="alternate" type="application/json\+oembed" href="([^"]+)"', html)
    assert link
    where = link[1].replace("&amp;", "&").removeprefix(settings.PUBLIC_URL)
    body = Client().get(where).json()
    assert (body["version"], body["type"]) == ("1.0", "rich")
    assert "permission in force" in body["title"]
    tags: list[tuple[str, dict[str, str | None]]] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attrs: tags.append((tag, dict(attrs)))  # type: ignore[method-assign]
    reader.feed(body["html"])
    assert [tag for tag, _ in tags] == ["a", "img"]
    assert tags[0][1]["href"] == f"{settings.PUBLIC_URL}{address}"
    assert tags[1][1]["src"] == f"{settings.PUBLIC_URL}{address}/badge.svg"
    small = Client().get(f"{where}&maxwidth=116").json()
    assert (small["width"], small["height"]) == (116, 22)


def test_oembed_knows_only_our_own_pages_and_json(grace_published: Published, address: str) -> None:
    ours = f"{settings.PUBLIC_URL}{address}"
    assert Client().get("/oembed", {"url": ours, "format": "xml"}).status_code == 501
    for url in (
        "",
        address,
        ours.replace("http://", "https://"),
        ours.replace("127.0.0.1", "evil.example"),
        f"{settings.PUBLIC_URL}/verify",
        f"{settings.PUBLIC_URL}/verify/o/out_unknown",
        f"{settings.PUBLIC_URL}/verify/o/%00",
        "http://[",
    ):
        assert Client().get("/oembed", {"url": url}).status_code == 404, url


def test_an_unknown_output_has_no_page_and_no_badge() -> None:
    for name in ("out_unknown", "%00", "é", "a" * 100):
        assert Client().get(f"/verify/o/{name}").status_code == 404
        assert Client().get(f"/verify/o/{name}/badge.svg").status_code == 404


def test_our_root_certificates_can_be_had_by_other_readers() -> None:
    answer = Client().get("/verify/anchors.pem")
    assert b"BEGIN CERTIFICATE" in answer.content
    assert b"PRIVATE" not in answer.content
