"""Texts of strangers on their way through page, JSON, permalink, status page, badge, terminal: shown, never obeyed."""

from __future__ import annotations

import io
import json
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import c2pa
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client

from tests.webapp.verify.conftest import Published
from watermark.credentials_reader import closed_settings
from watermark.signers import DevelopmentAuthority

pytestmark = pytest.mark.django_db

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{ 123456789|add:1 }}{% debug %}",
    "javascript:alert(1)",
    "safe\u202egpj.exe\u2066\u2069\u200b\u200f",
    "a\x00b\x1b[2Jc\x07\x9b31m",
    "\ud83d\ude00" * 3 + "\ufeff\u2028\u2029",
    "e" + "\u0301" * 500,
    "long " * 2000,
    "]]></script><!--",
)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> bytes:
    """A photo signed by a stranger who wrote something nasty wherever a text may be."""
    authority = DevelopmentAuthority.create(tmp_path_factory.mktemp("stranger"))
    signer = authority.signer()
    texts = [text.encode("utf-16", "surrogatepass").decode("utf-16") for text in NASTY]

    def text(number: int) -> str:
        return texts[number % len(texts)]

    source_type = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    actions: list[dict[str, Any]] = [
        {"action": "c2pa.created", "digitalSourceType": source_type, "description": text(0), "softwareAgent": text(1)}
    ]
    actions += [
        {
            "action": f"com.example.{number}<b>",
            "description": text(number),
            "when": text(number),
            "softwareAgent": {"name": text(number + 1), "version": text(number + 2)},
            "digitalSourceType": text(number),
        }
        for number in range(len(texts))
    ]
    definition = {
        "claim_version": 2,
        "title": text(0),
        "format": "image/jpeg",
        "claim_generator_info": [{"name": text(1), "version": text(5)}],
        "ingredients": [
            {
                "title": each,
                "format": "image/jpeg",
                "relationship": "componentOf",
                "label": f"part-{number}",
                "instance_id": f"xmp:iid:{number}",
            }
            for number, each in enumerate(texts)
        ],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }
    output = io.BytesIO()
    with c2pa.Context.from_dict(closed_settings("")) as context:
        native = c2pa.Signer.from_callback(signer.sign, c2pa.C2paSigningAlg.ES256, signer.chain_pem, None)
        builder = c2pa.Builder(json.loads(json.dumps(definition)), context=context)
        builder.sign(native, "image/jpeg", io.BytesIO((samples / "astronaut.jpg").read_bytes()), output)
    return output.getvalue()


class Tags(HTMLParser):
    """The tags and attributes of a page, as a browser takes them apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def inert(html: str) -> None:
    """No tag, handler or address of a stranger, and no character that steers."""
    tags = Tags(html).seen
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        for name in ("href", "src", "action"):
            value = attributes.get(name) or ""
            assert value.startswith(("/", "#", "http://127.0.0.1:8000/")) or value == "", (tag, value)
    scripts = [attributes for tag, attributes in tags if tag == "script"]
    assert all((attributes.get("src") or "").startswith("/static/") for attributes in scripts)
    assert "<b>" not in html
    steering = {char for char in html if unicodedata.category(char)[0] == "C"} - {"\n", "\t", "\r"}
    assert not steering, [hex(ord(char)) for char in steering]
    assert "123456790" not in html, "a template was evaluated"


def test_the_texts_of_a_strangers_manifest_are_only_shown(foreign: bytes) -> None:
    file = SimpleUploadedFile("<b>\u202ex.jpg", foreign, "image/jpeg")
    address = Client().post("/verify", {"file": file})["Location"]
    html = Client().get(address).content.decode()
    assert "Signed, but we do not know the signer." in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    inert(html)
    assert len(html) < 200_000
    report = Client().get(f"{address}/report.json")
    assert report["Content-Type"].startswith("application/json")
    assert report["X-Content-Type-Options"] == "nosniff"
    body = json.loads(report.content)
    texts = json.dumps(body, ensure_ascii=False)
    assert not {char for char in texts if unicodedata.category(char)[0] == "C"}
    assert max(len(each["title"]) for each in body["manifest"]["ingredients"]) <= 200


def test_the_api_gives_the_same_texts_as_data(foreign: bytes) -> None:
    answer = Client().post("/v1/verifications", {"file": SimpleUploadedFile("a.jpg", foreign, "image/jpeg")})
    assert answer["Content-Type"] == "application/json"
    assert answer.json()["code"] == "other_unknown"
    assert "\u202e" not in answer.content.decode()


def test_the_terminal_is_not_spoken_to(foreign: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(foreign)
    for options in ([], ["--json"]):
        with pytest.raises(SystemExit):
            call_command("verify", str(path), *options)
        shown = capsys.readouterr().out
        assert not {char for char in shown if unicodedata.category(char)[0] == "C"} - {"\n"}


@pytest.mark.parametrize("text", NASTY)
def test_what_is_written_into_addresses_and_fields_comes_back_inert(text: str, grace_published: Published) -> None:
    plain = text.encode("utf-16", "surrogatepass").decode("utf-16")
    answer = Client().post("/verify", {"url": f"https://{plain[:1000]}/"})
    assert answer.status_code == 422
    html = answer.content.decode()
    for tag, attributes in Tags(html).seen:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert "<script>" not in html
    own = f"/verify/o/{grace_published.output.pk}"
    for address in (own, f"{own}/badge.svg", "/verify"):
        shown = Client().get(address, {"x": plain[:500], "url": plain[:500]}).content.decode()
        assert plain.strip("e") not in shown or plain in ("javascript:alert(1)",)
    embed = Client().get("/oembed", {"url": plain[:500], "format": "json"})
    assert embed.status_code == 404
