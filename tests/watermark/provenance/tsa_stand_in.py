"""A loopback time-stamp authority that answers with `openssl ts`, well or badly (provenance.md section 1.8)."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from watermark import issuing

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


@dataclass
class TimeStampAuthority:
    """`behave` gets the right answer and the handler, and answers in its place; None is a service in order."""

    folder: Path
    root: issuing.Issued
    url: str = ""
    behave: Callable[[bytes, BaseHTTPRequestHandler], None] | None = None
    asked: list[bytes] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def root_pem(self) -> str:
        return self.root.certificate_pem

    def stamp(self, query: bytes) -> bytes:
        """The right answer to a TimeStampReq."""
        name = f"{threading.get_ident()}.tsq"
        (self.folder / name).write_bytes(query)
        done = subprocess.run(
            ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", name]
            + ["-signer", "tsa.pem", "-inkey", "tsa.key", "-out", f"{name}.tsr"],
            cwd=self.folder,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return (self.folder / f"{name}.tsr").read_bytes()


def answer(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200) -> None:
    """An HTTP answer with this body."""
    handler.send_response(status)
    handler.send_header("Content-Type", "application/timestamp-reply")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def serving(folder: Path) -> Iterator[TimeStampAuthority]:
    """A time-stamp authority with a root of its own, until the block ends."""
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
    authority = TimeStampAuthority(folder, root)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            authority.asked.append(query)
            right = authority.stamp(query)
            try:
                authority.behave(right, self) if authority.behave else answer(self, right)
            except OSError:
                self.close_connection = True  # the asker gave up first

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    authority.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield authority
    finally:
        authority.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
