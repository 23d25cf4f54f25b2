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

from watermark import issuing
from watermark.credentials import EXPIRED
from watermark.manifest import ManifestError, read, sign_file
from watermark.signers import FileSigner

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
