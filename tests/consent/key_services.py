"""AWS KMS and a Vault on loopback: they speak the real ones' protocols, around keys of the tests."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


@dataclass
class Service:
    """What the service holds, and how it behaves. `failure` is the status of every answer; "hang" leaves it open."""

    url: str = ""
    key: bytes = field(default_factory=lambda: os.urandom(32))
    failure: int | str = 0
    calls: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    tokens: set[str] = field(default_factory=lambda: {"s.token"})

    def seal(self, plain: bytes, bound: bytes = b"") -> bytes:
        nonce = os.urandom(12)
        return nonce + AESGCM(self.key).encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, bound: bytes = b"") -> bytes:
        return AESGCM(self.key).decrypt(sealed[:12], sealed[12:], bound)


@contextmanager
def serving(handler: type[_Handler]) -> Iterator[Service]:
    service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (handler,), {"service": service}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
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
    service: Service

    def answer(self, status: int, body: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status in {301, 302, 307}:
            self.send_header("Location", f"{self.service.url}/v1/elsewhere")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def asked(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Kms(_Handler):
    """The JSON protocol of AWS KMS: POST / with X-Amz-Target."""

    def do_POST(self) -> None:
        asked = self.asked()
        call = self.headers["X-Amz-Target"].removeprefix("TrentService.")
        self.service.calls.append(call)
        assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=")
        if self.service.failure:
            return self.answer(int(self.service.failure), {"__type": "AccessDeniedException"})
        bound = json.dumps([asked["KeyId"], asked["EncryptionContext"]]).encode()
        try:
            if call == "Encrypt":
                sealed = self.service.seal(base64.b64decode(asked["Plaintext"]), bound)
                return self.answer(200, {"CiphertextBlob": base64.b64encode(sealed).decode(), "KeyId": asked["KeyId"]})
            plain = self.service.open(base64.b64decode(asked["CiphertextBlob"]), bound)
        except InvalidTag:
            return self.answer(400, {"__type": "InvalidCiphertextException"})
        return self.answer(200, {"Plaintext": base64.b64encode(plain).decode(), "KeyId": asked["KeyId"]})


class Vault(_Handler):
    """The HTTP API of a Vault: AppRole log-in and the transit engine at `transit/`."""

    def do_POST(self) -> None:
        asked, path = self.asked(), self.path.removeprefix("/v1/")
        self.service.calls.append(path)
        if self.service.failure == "hang":
            self.service.released.wait(20)
            self.close_connection = True
            return None
        if self.service.failure == "nonsense":
            return self.answer(200, b"<html>")
        if self.service.failure:
            return self.answer(int(self.service.failure), {"errors": ["as the test wants it"]})
        if path == "auth/approle/login":
            if asked != {"role_id": "house", "secret_id": "secret"}:
                return self.answer(400, {"errors": ["invalid role or secret ID"]})
            self.service.tokens.add("s.of_the_role")
            return self.answer(200, {"auth": {"client_token": "s.of_the_role"}, "data": None})
        if self.headers.get("X-Vault-Token") not in self.service.tokens:
            return self.answer(403, {"errors": ["permission denied"]})
        if path == "transit/encrypt/imprimatur":
            sealed = self.service.seal(base64.b64decode(asked["plaintext"]))
            return self.answer(200, {"data": {"ciphertext": "vault:v1:" + base64.b64encode(sealed).decode()}})
        if path == "transit/decrypt/imprimatur":
            try:
                plain = self.service.open(base64.b64decode(asked["ciphertext"].removeprefix("vault:v1:")))
            except (InvalidTag, ValueError):
                return self.answer(400, {"errors": ["invalid ciphertext: could not decrypt"]})
            return self.answer(200, {"data": {"plaintext": base64.b64encode(plain).decode()}})
        return self.answer(404, {"errors": []})
