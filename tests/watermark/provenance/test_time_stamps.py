"""A time stamp keeps a signature alive after its certificate has ended (RFC 3161; C2PA 2.2 section 10.3.2.5)."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.watermark.provenance.strangers import TYPE, foreign, inspected
from tests.watermark.provenance.test_native_signing import Service
from watermark import issuing
from watermark.credentials import EXPIRED
from watermark.manifest import FORMATS, ManifestError, read, sign_file
from watermark.signers import FileSigner
from watermark.time_stamps import (
    TimeStampError,
    find_signature,
    query_for,
    request_time_stamp,
    stamped,
    token_of,
)

CONFIGURATION = """
[tsa]
default_tsa = here
[here]
dir = {folder}
serial = $dir/serial
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
signer_digest = sha256
ess_cert_id_alg = sha256
accuracy = secs:1
"""


@dataclass(frozen=True)
class TimeStampService:
    """A loopback time-stamp authority that answers with `openssl ts`."""

    url: str
    root_pem: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimeStampService]:
    if shutil.which("openssl") is None:
        pytest.skip("the time-stamp authority of this test is openssl's")
    folder = tmp_path_factory.mktemp("tsa")
    root = issuing.issue_root()
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC) - timedelta(minutes=5)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Time stamps for tests")]))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), critical=False)
        .sign(root.key, hashes.SHA256())
    )
    leaf = issuing.Issued(certificate, key)
    (folder / "tsa.pem").write_text(leaf.certificate_pem)
    (folder / "tsa.key").write_bytes(leaf.key_pem)
    (folder / "serial").write_text("01")
    (folder / "tsa.cnf").write_text(CONFIGURATION.format(folder=folder))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = folder / f"{threading.get_ident()}.tsq"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            done = subprocess.run(
                ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", query.name]
                + ["-signer", "tsa.pem", "-inkey", "tsa.key", "-out", f"{query.name}.tsr"],
                cwd=folder,
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            answer = (folder / f"{query.name}.tsr").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield TimeStampService(f"http://127.0.0.1:{server.server_port}/", root.certificate_pem)
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True)
class ShortLived:
    """A signing certificate that ends within seconds."""

    folder: Path
    root_pem: str
    end: datetime

    def signer(self, tsa_url: str | None = None) -> FileSigner:
        return FileSigner(self.folder / "chain.pem", self.folder / "signer.key", tsa_url=tsa_url)


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
    service, short_lived, plain_media, request_for, tmp_path
):
    source, request = plain_media["image/jpeg"], request_for("image/jpeg")
    anchors = short_lived.root_pem + service.root_pem
    stamped = sign_file(source, tmp_path / "stamped.jpg", request, short_lived.signer(service.url), anchors_pem=anchors)
    assert (stamped.credentials.state, stamped.credentials.time_source) == ("trusted", "tsa")
    sign_file(source, tmp_path / "plain.jpg", request, short_lived.signer(), anchors_pem=anchors)

    # The clock that counts is inside the native library, so the end has to be waited for.
    time.sleep(max(0.0, (short_lived.end - datetime.now(UTC)).total_seconds() + 1.1))
    later = read(tmp_path / "stamped.jpg", "image/jpeg", anchors_pem=anchors)
    assert (later.state, later.is_ours, later.time_source) == ("trusted", True, "tsa")
    expired = read(tmp_path / "plain.jpg", "image/jpeg", anchors_pem=anchors)
    assert (expired.state, expired.is_ours, expired.bytes_match) == ("invalid", False, True)
    assert EXPIRED in expired.failures


@pytest.mark.parametrize("mime", FORMATS)
def test_every_format_carries_the_time_of_its_signature(
    service, plain_media, request_for, dev_authority, tmp_path, mime
):
    anchors = dev_authority.root_pem + service.root_pem
    signer = dev_authority.signer(tsa_url=service.url)
    path = tmp_path / f"out{plain_media[mime].suffix}"
    signed = sign_file(plain_media[mime], path, request_for(mime), signer, anchors_pem=anchors)
    assert (signed.credentials.state, signed.credentials.time_source) == ("trusted", "tsa")
    assert read(path, mime, anchors_pem=anchors, store=signed.store).signature_trusted  # the record's bytes as well
    assert path.read_bytes().count(b"sigTst2") == signed.store.count(b"sigTst2") == 1


def test_a_signature_in_a_store_of_many_segments_is_stamped(
    service, plain_media, request_for, dev_authority, other_authority, tmp_path
):
    """A store longer than a JPEG segment is in pieces; the signature may lie across two of them."""
    part = {"action": "c2pa.edited", "digitalSourceType": f"{TYPE}digitalCapture"}
    first = {"action": "c2pa.created", "digitalSourceType": f"{TYPE}trainedAlgorithmicMedia"}
    anchors = dev_authority.root_pem + service.root_pem
    signer = dev_authority.signer(tsa_url=service.url)
    plain = plain_media["image/jpeg"].read_bytes()
    lengths = set()
    for number, size in enumerate(range(30_000, 54_000, 3_000)):
        said = [first, *({**part, "description": "x" * size} for _ in range(2))]
        target = tmp_path / f"in-{number}.jpg"
        assertions = [{"label": "c2pa.actions.v2", "data": {"actions": said}}]
        target.write_bytes(foreign(plain, other_authority, "", assertions=assertions, thumbnail=False))
        request = request_for("image/jpeg", target=inspected(target))
        path = tmp_path / f"out-{number}.jpg"
        signed = sign_file(plain_media["image/jpeg"], path, request, signer, anchors_pem=anchors)
        assert (signed.credentials.state, signed.credentials.time_source) == ("trusted", "tsa")
        lengths.add(len(signed.store) // 65_000)
    assert len(lengths) > 1


@pytest.mark.parametrize(
    "reply",
    [b"", b"\x30", b"\x30\x82\xff\xff\x02", b"\x30\x05\x30\x03\x02\x01\x02", b"<html>", b"\x30\x03\x02\x01\x00"],
)
def test_what_is_no_granted_time_stamp_reply_is_said_to_be_none(reply):
    with pytest.raises(TimeStampError) as caught:
        token_of(reply)
    assert caught.value.code == "time_stamp_failed"


@pytest.mark.parametrize("length", [0, 20, 200, 300, 5000, 9000])
def test_a_stamp_takes_the_place_of_padding_whatever_its_length(sign, length):
    _, signed = sign("image/jpeg")
    place = find_signature(signed.store)
    made = stamped(signed.store, place, bytes(length))
    assert len(made) == len(signed.store)
    assert made[: place.header] == signed.store[: place.header]
    assert made[place.padding_end :] == signed.store[place.padding_end :]
    with pytest.raises(TimeStampError):
        stamped(signed.store, place, bytes(1 << 16))


@pytest.mark.parametrize("store", [b"", b"c2pa.signature\0", b"c2pa.signature\0....\xd2\x84", b"x" * 500])
def test_what_is_no_signature_is_not_stamped(store):
    with pytest.raises(TimeStampError):
        find_signature(store)


def test_the_stamp_of_another_signature_is_refused_even_beside_an_input_that_has_one(
    service, sign, plain_media, request_for, dev_authority, tmp_path
):
    anchors = dev_authority.root_pem + service.root_pem
    first = tmp_path / "first.jpg"
    signer = dev_authority.signer(tsa_url=service.url)
    sign_file(plain_media["image/jpeg"], first, request_for("image/jpeg"), signer, anchors_pem=anchors)
    target = inspected(first)
    assert target.kept_whole
    _, other = sign("image/jpeg", name="other")
    replayed = request_time_stamp(service.url, query_for(other.store, find_signature(other.store)))
    with Service(200, replayed) as replay, pytest.raises(ManifestError, match="not a time stamp of this signature"):
        sign_file(
            plain_media["image/jpeg"],
            tmp_path / "second.jpg",
            request_for("image/jpeg", target=target),
            dev_authority.signer(tsa_url=replay.url),
            anchors_pem=anchors,
        )
    assert not (tmp_path / "second.jpg").exists()


def test_a_time_of_an_unknown_authority_is_only_a_claim(service, plain_media, request_for, dev_authority, tmp_path):
    signer = dev_authority.signer(tsa_url=service.url)
    signed = sign_file(
        plain_media["image/jpeg"],
        tmp_path / "out.jpg",
        request_for("image/jpeg"),
        signer,
        anchors_pem=dev_authority.root_pem,
    )
    assert (signed.credentials.state, signed.credentials.time_source) == ("trusted", "claimed")


def test_a_time_stamp_service_that_is_down_stops_the_signing_and_leaves_no_file(
    plain_media, request_for, dev_authority, tmp_path
):
    signer = dev_authority.signer(tsa_url="http://127.0.0.1:9/")
    with pytest.raises(ManifestError) as caught:
        sign_file(plain_media["image/jpeg"], tmp_path / "out.jpg", request_for("image/jpeg"), signer)
    assert caught.value.code == "manifest_signing"
    assert "time-stamp service" in caught.value.message
    assert list(tmp_path.iterdir()) == []
