"""A time stamp keeps a signature alive after its certificate has ended (RFC 3161; C2PA 2.2 section 10.3.2.5)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from tests.watermark.provenance import tsa_stand_in
from tests.watermark.provenance.strangers import TYPE, foreign, inspected
from tests.watermark.provenance.tsa_stand_in import TimeStampAuthority, answer
from watermark import issuing
from watermark.credentials import EXPIRED
from watermark.manifest import read, sign_file
from watermark.manifest_request import FORMATS
from watermark.native_signing import sign_native
from watermark.signers import FileSigner
from watermark.stamping import StampingError, StampTooLongError, find_signature, query_for, stamped
from watermark.timestamps import MAX_ANSWER, TimeStampError, TimeStampService


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimeStampAuthority]:
    if shutil.which("openssl") is None:
        pytest.skip("the time-stamp authority of this test is openssl's")
    with tsa_stand_in.serving(tmp_path_factory.mktemp("tsa")) as made:
        yield made


@pytest.fixture
def service(authority: TimeStampAuthority) -> Iterator[TimeStampService]:
    yield TimeStampService(authority.url)
    authority.behave = None


@pytest.fixture
def signing(plain_media, request_for, dev_authority, tmp_path) -> Callable[..., Any]:
    """Sign the plain JPEG with the development signer."""

    def do(target: Any = None, **options: Any) -> Any:
        signer = dev_authority.signer()
        out = tmp_path / "out.jpg"
        request = request_for("image/jpeg", **({"target": target} if target else {}))
        options = {"anchors_pem": dev_authority.root_pem, **options}
        return sign_file(plain_media["image/jpeg"], out, request, signer, **options)

    return do


def query() -> bytes:
    builder = TimestampRequestBuilder().data(b"bytes").hash_algorithm(HashAlgorithm.SHA256)
    return builder.nonce(nonce=True).cert_request(cert_request=True).build().as_bytes()


@dataclass(frozen=True)
class ShortLived:
    """A signing certificate that ends within seconds."""

    folder: Path
    root_pem: str
    end: datetime

    def signer(self) -> FileSigner:
        return FileSigner(self.folder / "chain.pem", self.folder / "signer.key")


@pytest.fixture
def short_lived(tmp_path: Path) -> ShortLived:
    root = issuing.issue_root()
    intermediate = issuing.issue_intermediate(root)
    leaf = issuing.issue_leaf(intermediate, life=issuing.CLOCK_SKEW + timedelta(seconds=4))
    folder = tmp_path / "short"
    folder.mkdir()
    (folder / "chain.pem").write_text(leaf.certificate_pem + intermediate.certificate_pem)
    (folder / "signer.key").write_bytes(leaf.key_pem)
    return ShortLived(folder, root.certificate_pem, leaf.certificate.not_valid_after_utc)


def test_after_its_certificate_ended_only_a_stamped_signature_is_still_ours(
    authority, service, short_lived, plain_media, request_for, tmp_path
):
    source, request = plain_media["image/jpeg"], request_for("image/jpeg")
    anchors = {"anchors_pem": short_lived.root_pem, "tsa_anchors_pem": authority.root_pem}
    stamped = sign_file(source, tmp_path / "stamped.jpg", request, short_lived.signer(), tsa=service, **anchors)
    assert (stamped.credentials.state, stamped.credentials.time_source) == ("trusted", "tsa")
    sign_file(source, tmp_path / "plain.jpg", request, short_lived.signer(), **anchors)

    # The clock that counts is inside the native library, so the end has to be waited for.
    time.sleep(max(0.0, (short_lived.end - datetime.now(UTC)).total_seconds() + 1.1))
    later = read(tmp_path / "stamped.jpg", "image/jpeg", **anchors)
    assert (later.state, later.is_ours, later.time_source) == ("trusted", True, "tsa")
    expired = read(tmp_path / "plain.jpg", "image/jpeg", **anchors)
    assert (expired.state, expired.is_ours, expired.bytes_match) == ("invalid", False, True)
    assert EXPIRED in expired.failures


@pytest.mark.parametrize("mime", FORMATS)
def test_every_format_carries_the_time_of_its_signature(
    authority, service, plain_media, request_for, dev_authority, tmp_path, mime
):
    anchors = {"anchors_pem": dev_authority.root_pem, "tsa_anchors_pem": authority.root_pem}
    path = tmp_path / f"out{plain_media[mime].suffix}"
    signed = sign_file(plain_media[mime], path, request_for(mime), dev_authority.signer(), tsa=service, **anchors)
    assert (signed.credentials.state, signed.credentials.time_source) == ("trusted", "tsa")
    assert read(path, mime, store=signed.store, **anchors).signature_trusted  # the record's bytes as well
    assert path.read_bytes().count(b"sigTst2") == signed.store.count(b"sigTst2") == 1


def test_a_signature_in_a_store_of_many_segments_is_stamped(
    authority, service, plain_media, request_for, dev_authority, other_authority, tmp_path
):
    """A store longer than a JPEG segment is in pieces; the signature may lie across two of them."""
    part = {"action": "c2pa.edited", "digitalSourceType": f"{TYPE}digitalCapture"}
    first = {"action": "c2pa.created", "digitalSourceType": f"{TYPE}trainedAlgorithmicMedia"}
    anchors = {"anchors_pem": dev_authority.root_pem, "tsa_anchors_pem": authority.root_pem}
    plain = plain_media["image/jpeg"].read_bytes()
    lengths = set()
    for number, size in enumerate(range(30_000, 54_000, 3_000)):
        said = [first, *({**part, "description": "x" * size} for _ in range(2))]
        target = tmp_path / f"in-{number}.jpg"
        assertions = [{"label": "c2pa.actions.v2", "data": {"actions": said}}]
        target.write_bytes(foreign(plain, other_authority, "", assertions=assertions, thumbnail=False))
        request = request_for("image/jpeg", target=inspected(target))
        path = tmp_path / f"out-{number}.jpg"
        signed = sign_file(plain_media["image/jpeg"], path, request, dev_authority.signer(), tsa=service, **anchors)
        assert (signed.credentials.state, signed.credentials.time_source) == ("trusted", "tsa")
        lengths.add(len(signed.store) // 65_000)
    assert len(lengths) > 1


@pytest.mark.parametrize("length", [0, 20, 200, 300, 5000, 9000])
def test_a_stamp_takes_the_place_of_padding_whatever_its_length(sign, length):
    _, signed = sign("image/jpeg")
    place = find_signature(signed.store)
    made = stamped(signed.store, place, bytes(length))
    assert len(made) == len(signed.store)
    assert made[: place.header] == signed.store[: place.header]
    assert made[place.padding_end :] == signed.store[place.padding_end :]
    with pytest.raises(StampTooLongError):
        stamped(signed.store, place, bytes(1 << 16))


@pytest.mark.parametrize("store", [b"", b"c2pa.signature\0", b"c2pa.signature\0....\xd2\x84", b"x" * 500])
def test_what_is_no_signature_is_not_stamped(store):
    with pytest.raises(StampingError):
        find_signature(store)


def test_the_stamp_of_another_signature_is_refused_even_beside_an_input_that_has_one(
    authority, service, signing, sign, plain_media, request_for, dev_authority, tmp_path
):
    first = tmp_path / "first.jpg"
    sign_file(plain_media["image/jpeg"], first, request_for("image/jpeg"), dev_authority.signer(), tsa=service)
    target = inspected(first)
    assert target.kept_whole
    _, other = sign("image/jpeg", name="other")
    replayed = authority.stamp(query_for(other.store, find_signature(other.store)))

    def taken_over(order, ask):
        """A child that puts another stamp in than the one it was given."""
        return sign_native(order, lambda what, request: replayed if what == "time_stamp" else ask(what, request))

    with pytest.raises(TimeStampError, match="not a time stamp of this signature") as caught:
        signing(target=target, tsa=service, native=taken_over)
    assert caught.value.code == "tsa_invalid"
    assert not (tmp_path / "out.jpg").exists()


def test_a_time_of_an_unknown_authority_is_only_a_claim(service, signing):
    signed = signing(tsa=service)
    assert (signed.credentials.state, signed.credentials.time_source) == ("trusted", "claimed")


def test_a_signer_under_the_time_stamps_root_alone_is_a_stranger(authority, dev_authority, signing, tmp_path):
    signing()
    path = tmp_path / "out.jpg"
    both = read(path, "image/jpeg", anchors_pem="", tsa_anchors_pem=dev_authority.root_pem)
    assert (both.is_ours, both.signature_trusted) == (False, False)
    other = issuing.issue_root().certificate_pem
    found = read(path, "image/jpeg", anchors_pem=other, tsa_anchors_pem=dev_authority.root_pem)
    assert (found.is_ours, found.state) == (False, "valid")
    same = read(path, "image/jpeg", anchors_pem=dev_authority.root_pem, tsa_anchors_pem=dev_authority.root_pem)
    assert same.is_ours


def hang(authority: TimeStampAuthority) -> Callable[[bytes, BaseHTTPRequestHandler], None]:
    return lambda right, handler: authority.released.wait(20) and None


def drip(authority: TimeStampAuthority) -> Callable[[bytes, BaseHTTPRequestHandler], None]:
    """One byte at a time, each soon enough for a socket's own time-out."""

    def behave(right: bytes, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(right)))
        handler.end_headers()
        for byte in right:
            if authority.released.wait(0.1):
                return
            handler.wfile.write(bytes([byte]))

    return behave


def says(content: bytes, status: int = 200) -> Callable[[TimeStampAuthority], Any]:
    return lambda authority: lambda right, handler: answer(handler, content, status)


def replay(authority: TimeStampAuthority) -> Callable[[bytes, BaseHTTPRequestHandler], None]:
    old = authority.stamp(query())
    return lambda right, handler: answer(handler, old)


def redirect(authority: TimeStampAuthority) -> Callable[[bytes, BaseHTTPRequestHandler], None]:
    def behave(right: bytes, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", authority.url)
        handler.end_headers()

    return behave


# TimeStampResp { status { rejection, "too busy" } }, RFC 3161 section 2.4.2
REJECTION = bytes.fromhex("3011300f020102300a0c08") + b"too busy"
FAILURES = [
    (hang, "tsa_unavailable", "no whole answer"),
    (drip, "tsa_unavailable", "no whole answer"),
    (says(b"", 503), "tsa_unavailable", "503"),
    (says(b"", 403), "tsa_invalid", "403"),
    (says(b""), "tsa_invalid", "no time stamp"),
    (says(b"<html>sign in</html>"), "tsa_invalid", "no time stamp"),
    (says(b"\x30" * (MAX_ANSWER + 1)), "tsa_invalid", "more than"),
    (says(REJECTION), "tsa_invalid", "too busy"),
    (replay, "tsa_invalid", "another nonce"),
    (redirect, "tsa_invalid", "302"),
]


@pytest.mark.parametrize(
    ("behave", "code", "words"),
    FAILURES,
    ids=["hangs", "drips", "is down", "denies", "is empty", "is a page", "floods", "rejects", "replays", "redirects"],
)
def test_a_service_that_gives_no_stamp_stops_the_signing_in_bounded_time_and_leaves_no_file(
    authority, service, signing, tmp_path, behave, code, words
):
    authority.behave = behave(authority)
    started = time.monotonic()
    with pytest.raises(TimeStampError) as caught:
        signing(tsa=TimeStampService(authority.url, seconds=0.7))
    assert time.monotonic() - started < 5
    assert (caught.value.code, words in caught.value.detail) == (code, True), caught.value.detail
    assert "nothing is lost" in caught.value.message
    assert authority.url not in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_is_gone_is_unavailable(signing, tmp_path):
    with pytest.raises(TimeStampError) as caught:
        signing(tsa=TimeStampService("http://127.0.0.1:9/"))
    assert caught.value.code == "tsa_unavailable"
    assert list(tmp_path.iterdir()) == []


def test_a_stamp_over_other_bytes_is_refused(authority, service):
    asked = query()
    wrong = bytearray(asked)
    place = asked.index(b"\x04\x20") + 2  # the digest, an OCTET STRING of 32 bytes
    wrong[place] ^= 1
    authority.behave = lambda right, handler: answer(handler, authority.stamp(bytes(wrong)))
    with pytest.raises(TimeStampError, match="other bytes"):
        service.ask(asked)
    authority.behave = None
    assert service.ask(asked)


def test_a_stamp_whose_own_signature_is_broken_is_not_taken_into_a_file(authority, service, signing, tmp_path):
    authority.behave = lambda right, handler: answer(handler, right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(TimeStampError) as caught:
        signing(tsa=service, tsa_anchors_pem=authority.root_pem)
    assert caught.value.code == "tsa_invalid"
    assert list(tmp_path.iterdir()) == []


def test_no_damaged_answer_passes_unless_its_checked_parts_are_whole_and_none_crashes(authority, service):
    rng = np.random.default_rng(4)
    asked = query()
    right = authority.stamp(asked)
    for _ in range(150):
        damaged = bytearray(right)
        for place in rng.integers(0, len(right), rng.integers(1, 8)):
            damaged[place] = rng.integers(0, 256)
        damaged = damaged[: rng.integers(1, len(right) + 1)] if rng.random() < 0.3 else damaged
        authority.behave = lambda _, handler, content=bytes(damaged): answer(handler, content)
        try:
            code = "" if service.ask(asked) == bytes(damaged) else "changed"
        except TimeStampError as error:
            code = error.code
        assert code in {"", "tsa_invalid"}


@pytest.mark.parametrize("url", ["", "ftp://tsa.example.org", "tsa.example.org", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(ValueError, match="http"):
        TimeStampService(url)


def test_a_service_in_order_is_found_so_before_it_is_needed(authority, service):
    count = len(authority.asked)
    service.probe()
    assert len(authority.asked) == count + 1
