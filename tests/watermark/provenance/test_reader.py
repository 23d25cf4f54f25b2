"""The closed reader on files that nobody vouches for."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import av
import c2pa
import pytest
from PIL import Image

from watermark.credentials import Credentials
from watermark.credentials_parsing import clean
from watermark.credentials_reader import claim_of_store, closed_settings
from watermark.manifest import read, read_untrusted
from watermark.manifest_request import FORMATS

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "<script>alert(1)</script>\u202egpj.\x00\x1b[31m" + "A" * 5000


def flip_media_byte(path: Path, mime: str) -> bytes:
    """The file with one byte of the picture changed: not of the manifest, not of a header."""
    data = bytearray(path.read_bytes())
    if mime == "image/webp":
        place = data.index(b"VP8 ") + 2000
    elif mime == "image/png":
        place = data.rindex(b"IDAT") + 1500
    elif mime in ("video/mp4", "video/quicktime"):
        place = data.index(b"mdat") + 900
    else:
        place = len(data) - 900
    data[place] ^= 0x01
    return bytes(data)


@pytest.mark.parametrize("mime", FORMATS)
def test_one_changed_media_byte_makes_our_manifest_invalid_for_these_bytes(sign, dev_authority, mark_id, mime):
    path, _ = sign(mime)
    found = read(flip_media_byte(path, mime), mime, anchors_pem=dev_authority.root_pem)
    boxed = mime in ("image/avif", "video/mp4", "video/quicktime")
    mismatch = "assertion.bmffHash.mismatch" if boxed else "assertion.dataHash.mismatch"
    assert (found.state, found.failures, found.bytes_match) == ("invalid", (mismatch,), False)
    # The signature still holds, so the verdict can say whose file this was.
    assert (found.is_ours, found.signature_trusted, found.mark_ids) == (True, True, (mark_id,))


@pytest.mark.parametrize("mime", FORMATS)
def test_the_claim_of_a_file_is_that_of_its_recorded_store_even_after_a_change_of_its_bytes(sign, dev_authority, mime):
    path, signed = sign(mime)
    claim = claim_of_store(signed.store)
    assert len(claim) == 64
    assert read(path, mime, anchors_pem=dev_authority.root_pem).claim_sha256 == claim
    assert read(flip_media_byte(path, mime), mime, anchors_pem=dev_authority.root_pem).claim_sha256 == claim
    assert read(path, mime, anchors_pem="").claim_sha256 == ""  # under no anchor it is nobody's
    _, again = sign(mime, name="again")
    assert claim_of_store(again.store) != claim


@pytest.mark.parametrize("store", [b"", b"no manifest store"])
def test_a_record_that_is_no_manifest_store_has_no_claim(store):
    assert claim_of_store(store) == ""


def test_no_changed_media_byte_of_a_hundred_is_ever_called_trusted(sign, dev_authority):
    path, signed = sign("image/jpeg")
    data = path.read_bytes()
    rng = random.Random(20)
    start = data.index(b"\xff\xda")
    for _ in range(100):
        mutant = bytearray(data)
        mutant[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
        found = read(bytes(mutant), "image/jpeg", anchors_pem=dev_authority.root_pem)
        assert found.state == "invalid"
        assert not found.bytes_match
    assert signed.credentials.bytes_match


def test_damaged_files_end_in_a_state_and_never_in_an_exception(sign, dev_authority):
    path, _ = sign("image/jpeg")
    data = path.read_bytes()
    rng = random.Random(7)
    end = data.index(b"\xff\xdb")
    for number in range(300):
        mutant = bytearray(data)
        for _ in range(1 + number % 8):
            mutant[rng.randrange(2, end)] = rng.randrange(256)
        if number % 5 == 0:
            del mutant[rng.randrange(2, len(mutant)) :]
        found = read(bytes(mutant), "image/jpeg", anchors_pem=dev_authority.root_pem)
        assert Credentials.from_dict(json.loads(json.dumps(found.to_dict()))).state == found.state


@pytest.mark.parametrize("mime", FORMATS)
def test_an_encoded_again_file_has_no_credentials(sign, dev_authority, tmp_path, mime):
    path, _ = sign(mime)
    again = tmp_path / f"again{path.suffix}"
    if mime.startswith("video/"):
        with av.open(str(path)) as source, av.open(str(again), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    else:
        with Image.open(path) as picture:
            picture.save(again)
    assert read(again, mime, anchors_pem=dev_authority.root_pem).state == "none"


@pytest.mark.parametrize("mime", FORMATS)
def test_a_store_from_our_records_is_accepted_for_a_stripped_file_but_never_as_its_hash(
    sign, plain_media, dev_authority, mark_id, mime
):
    _, signed = sign(mime)
    found = read(plain_media[mime], mime, anchors_pem=dev_authority.root_pem, store=signed.store)
    assert (found.state, found.recovered, found.bytes_match) == ("trusted", True, False)
    assert found.mark_ids == (mark_id,)
    assert set(found.failures) <= {"assertion.dataHash.mismatch", "assertion.bmffHash.mismatch"}


def test_a_store_that_was_altered_is_not_accepted(sign, plain_media, dev_authority):
    _, signed = sign("image/jpeg")
    store = signed.store.replace(b"cns_ada1", b"cns_eve1")
    assert store != signed.store
    found = read(plain_media["image/jpeg"], "image/jpeg", anchors_pem=dev_authority.root_pem, store=store)
    assert found.state == "invalid"
    assert "assertion.hashedURI.mismatch" in found.failures


def test_only_our_own_anchors_make_a_file_ours(sign, dev_authority, other_authority):
    path, _ = sign("image/jpeg")
    listed = read(path, "image/jpeg", anchors_pem=other_authority.root_pem, trust_list_pem=dev_authority.root_pem)
    assert (listed.state, listed.is_ours) == ("trusted", False)
    unknown = read(path, "image/jpeg", anchors_pem=other_authority.root_pem)
    assert (unknown.state, unknown.is_ours) == ("valid", False)


@pytest.mark.parametrize("data", [b"", b"\x00", b"no media" * 100])
def test_what_is_no_media_has_no_credentials(data):
    assert read(data, "image/jpeg", anchors_pem="").state == "none"


def stranger(authority, title: str, remote: str = "") -> bytes:
    """A JPEG signed with a hostile text in every free field, or with a remote reference only."""
    definition = {
        "claim_version": 2,
        "title": title,
        "format": "image/jpeg",
        "claim_generator_info": [{"name": title or "x", "version": "1"}],
        "ingredients": [{"title": title, "format": "image/jpeg", "relationship": "componentOf"}],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {
                    "actions": [
                        {
                            "action": "c2pa.created",
                            "digitalSourceType": title or "x",
                            "description": title,
                            "softwareAgent": {"name": title},
                        }
                    ]
                },
            },
            {
                "label": "c2pa.soft-binding",
                "data": {"alg": "io.imprimatur.watermark.1", "blocks": [{"scope": {}, "value": title}], "pad": ""},
            },
        ],
    }
    signer = authority.signer()
    picture = (ROOT / "tests" / "samples" / "astronaut.jpg").read_bytes()
    output = io.BytesIO()
    with c2pa.Context.from_dict(closed_settings("")) as context:
        native = c2pa.Signer.from_callback(signer.sign, c2pa.C2paSigningAlg.ES256, signer.chain_pem, None)
        builder = c2pa.Builder(definition, context=context)
        if remote:
            builder.set_no_embed()
            builder.set_remote_url(remote)
        builder.sign(native, "image/jpeg", io.BytesIO(picture), output)
    return output.getvalue()


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def test_hostile_texts_come_out_short_and_without_control_or_direction_characters(other_authority):
    # NUL ends a C string, so it cannot even be signed; the other characters can.
    found = read(stranger(other_authority, HOSTILE.replace("\x00", "")), "image/jpeg", anchors_pem="")
    assert found.state == "valid"
    assert found.mark_ids == ()
    said = texts(found.to_dict(raw=False))
    assert any("<script>" in text for text in said)  # text stays text: the page escapes it
    assert all(len(text) <= 400 for text in said)
    assert not any(char in text for text in said for char in "\u202e\x1b\x00")


def test_cleaning_keeps_words_and_drops_what_is_not_text():
    assert clean("Ada\u202e\x07 Łovelace\ud800 中文") == "Ada Łovelace 中文"
    assert clean("x" * 300, 10) == "x" * 9 + "…"
    assert clean(None) == clean(17) == ""


def test_the_entry_of_the_media_child_returns_plain_data(sign, dev_authority):
    path, _ = sign("image/png")
    payload = {"path": str(path), "mime": "image/png", "anchors_pem": dev_authority.root_pem}
    sent = json.loads(json.dumps(read_untrusted(payload)))
    assert Credentials.from_dict(sent) == read(path, "image/png", anchors_pem=dev_authority.root_pem)


@pytest.mark.parametrize(
    "bad",
    [{}, {"state": "golden"}, {"state": "valid", "mark_ids": ["zz"]}, {"state": "valid", "surprise": 1}, {"state": []}],
)
def test_what_is_not_credentials_is_not_read_back(bad):
    with pytest.raises(ValueError):
        Credentials.from_dict(bad)
