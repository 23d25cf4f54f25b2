"""Key services on loopback that speak the real ones' protocols, around keys of the tests."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from watermark.key_gcp import crc32c

HASHES = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}


def sign_digest(key: Any, digest: bytes) -> bytes:
    """DER for ECDSA, PSS for RSA."""
    kind = HASHES[len(digest)]
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PSS(padding.MGF1(kind), len(digest)), utils.Prehashed(kind))
    return key.sign(digest, ec.ECDSA(utils.Prehashed(kind)))


def public_bytes(key: Any, encoding: serialization.Encoding) -> bytes:
    return key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass
class StandIn:
    """What the service has and how it behaves. `failure` is (HTTP status, body) for every call, or "hang"."""

    key: Any
    url: str = ""
    failure: tuple[int, dict[str, Any]] | str | None = None
    calls: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(service: StandIn, handler: type[_Handler]) -> Iterator[StandIn]:
    """The service on a loopback port, until the block ends."""
    bound = type("Bound", (handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        service.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    service: StandIn

    def answer(self, status: int, body: dict[str, Any], kind: str = "application/json") -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def failing(self, call: str) -> bool:
        """True when the call was answered, or left unanswered, as the test wants it."""
        self.service.calls.append(call)
        if self.service.failure == "hang":
            self.service.released.wait(30)
            self.close_connection = True
            return True
        if self.service.failure is not None:
            self.answer(*self.service.failure)
            return True
        return False

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class AwsKms(_Handler):
    """The JSON protocol of AWS KMS: POST / with X-Amz-Target."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = self.headers["X-Amz-Target"].removeprefix("TrentService.")
        assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=")
        if self.failing(call):
            return
        if call == "GetPublicKey":
            found = {"PublicKey": base64.b64encode(public_bytes(self.service.key, serialization.Encoding.DER)).decode()}
        else:
            assert (call, asked["MessageType"]) == ("Sign", "DIGEST")
            digest = base64.b64decode(asked["Message"])
            pss = isinstance(self.service.key, rsa.RSAPrivateKey)
            kind = "RSASSA_PSS_SHA" if pss else "ECDSA_SHA"
            assert asked["SigningAlgorithm"] == f"{kind}_{len(digest) * 8}"
            found = {"Signature": base64.b64encode(sign_digest(self.service.key, digest)).decode()}
        self.answer(200, {"KeyId": asked["KeyId"], **found}, "application/x-amz-json-1.1")


class GoogleKms(_Handler):
    """The REST interface of Google Cloud KMS, v1. `damaged` flips the checksum of every answer."""

    damaged = False
    algorithm = "EC_SIGN_P256_SHA256"

    def do_GET(self) -> None:
        assert self.path.split("?")[0].endswith("/publicKey")
        if self.failing("getPublicKey"):
            return
        pem = public_bytes(self.service.key, serialization.Encoding.PEM)
        name = self.path.split("?")[0].removeprefix("/v1/").removesuffix("/publicKey")
        self.answer(
            200,
            {"pem": pem.decode(), "algorithm": self.algorithm, "name": name, "pemCrc32c": str(self.sum(pem))},
        )

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path.split("?")[0].endswith(":asymmetricSign")
        if self.failing("asymmetricSign"):
            return
        (digest,) = (base64.b64decode(value) for value in asked["digest"].values())
        signature = sign_digest(self.service.key, digest)
        self.answer(
            200,
            {
                "name": self.path.split("?")[0].removeprefix("/v1/").removesuffix(":asymmetricSign"),
                "signature": base64.b64encode(signature).decode(),
                "signatureCrc32c": str(self.sum(signature)),
                "verifiedDigestCrc32c": int(asked["digestCrc32c"]) == crc32c(digest),
            },
        )

    def sum(self, data: bytes) -> int:
        return crc32c(data) ^ self.damaged
