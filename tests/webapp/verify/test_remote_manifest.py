"""Files whose Content Credentials are kept elsewhere: fetched if the asker wants it, through the safe client only."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import c2pa
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tests.webapp.core.test_net import NAME, Server, head, send
from watermark.credentials_reader import closed_settings
from watermark.signers import DevelopmentAuthority
from webapp.net import MANIFEST_BYTES

pytestmark = pytest.mark.django_db


@pytest.fixture
def pointing(elsewhere: Server, samples: Path, tmp_path: Path) -> tuple[bytes, bytes]:
    """A photo that only names the address of its manifest, and that manifest."""
    signer = DevelopmentAuthority.create(tmp_path / "stranger").signer()
    source_type = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    definition = {
        "claim_version": 2,
        "format": "image/jpeg",
        "claim_generator_info": [{"name": "Camera", "version": "1"}],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": source_type}]},
            }
        ],
    }
    output = io.BytesIO()
    with c2pa.Context.from_dict(closed_settings("")) as context:
        native = c2pa.Signer.from_callback(signer.sign, c2pa.C2paSigningAlg.ES256, signer.chain_pem, None)
        builder = c2pa.Builder(definition, context=context)
        builder.set_no_embed()
        builder.set_remote_url(f"https://{NAME}:{elsewhere.port}/manifest.c2pa")
        photo = io.BytesIO((samples / "astronaut.jpg").read_bytes())
        store = bytes(builder.sign(native, "image/jpeg", photo, output))
    return output.getvalue(), store


def ask(content: bytes, **fields: str) -> Any:
    file = SimpleUploadedFile("a.jpg", content, "image/jpeg")
    return Client().post("/v1/verifications", {"file": file, **fields}).json()


def test_nothing_named_in_a_file_is_fetched_unasked(pointing: tuple[bytes, bytes], elsewhere: Server) -> None:
    elsewhere.answer = send(head(len(pointing[1])), pointing[1])
    body = ask(pointing[0])
    assert (body["code"], body["reason"]) == ("other_unknown", "remote_only")
    assert elsewhere.seen == []


def test_what_is_asked_for_is_fetched_and_held_against_the_file(
    pointing: tuple[bytes, bytes], elsewhere: Server
) -> None:
    content, store = pointing
    elsewhere.answer = send(head(len(store)), store)
    body = ask(content, fetch_manifest="true")
    assert (body["code"], body["reason"]) == ("other_unknown", "")
    assert body["manifest"]["bytes_match"]
    assert body["manifest"]["remote_url"].endswith("/manifest.c2pa")
    file = SimpleUploadedFile("a.jpg", content, "image/jpeg")
    page = Client().post("/verify", {"file": file, "fetch_manifest": "1"})
    assert "Kept elsewhere, fetched from there" in Client().get(page["Location"]).content.decode()
    changed = content[:-2000] + bytes([content[-2000] ^ 1]) + content[-1999:]
    assert ask(changed, fetch_manifest="true")["code"] == "other_invalid"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (send(head(MANIFEST_BYTES + 1)), "url_too_large"),
        (send(head(0, status="404 Not Found")), "url_answer"),
        (send(head(0, "Location: https://10.0.0.1/", status="302 Found")), "url_invalid"),
    ],
)
def test_a_manifest_that_cannot_be_fetched_leaves_what_was_known(
    answer: Any, code: str, pointing: tuple[bytes, bytes], elsewhere: Server
) -> None:
    elsewhere.answer = answer
    body = ask(pointing[0], fetch_manifest="true")
    assert (body["code"], body["reason"]) == ("other_unknown", "remote_only")
    assert body["manifest"]["failures"] == [code]


def test_what_comes_instead_of_a_manifest_is_broken(pointing: tuple[bytes, bytes], elsewhere: Server) -> None:
    elsewhere.answer = send(head(4000), b"\0\0\0\x10jumb" * 500)
    assert ask(pointing[0], fetch_manifest="true")["code"] == "other_invalid"
