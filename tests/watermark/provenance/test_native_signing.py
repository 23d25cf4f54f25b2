"""The native half of signing in a media child: what it may ask for, and what it cannot have."""

from __future__ import annotations

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.watermark.provenance.strangers import foreign, inspected
from watermark.key_signers import SignerError
from watermark.manifest import ManifestError, sign_file
from watermark.native_signing import NativeSigningError, sign_entry
from watermark.signers import CallbackSigner
from watermark.time_stamps import TimeStampError, request_time_stamp
from webapp.jobs.finishing import sign_in_child
from worker.media import client
from worker.media.errors import ChildError, MediaError
from worker.media.sandbox import call


@pytest.fixture
def signing(plain_media, request_for, dev_authority, tmp_path):
    """Sign a JPEG in a media child, with whatever signer and request."""

    def do(signer=None, native=sign_in_child, **changes):
        return sign_file(
            plain_media["image/jpeg"],
            tmp_path / "out" / "signed.jpg",
            request_for("image/jpeg", **changes),
            signer or dev_authority.signer(),
            anchors_pem=dev_authority.root_pem,
            native=native,
        )

    (tmp_path / "out").mkdir()
    return do


def test_a_child_without_keys_signs_and_keeps_a_strangers_manifest(
    signing, plain_media, other_authority, dev_authority, tmp_path
):
    target = tmp_path / "target.jpg"
    plain = plain_media["image/jpeg"].read_bytes()
    target.write_bytes(foreign(plain, other_authority, "trainedAlgorithmicMedia", thumbnail=False))
    orders = []

    def native(order, ask):
        orders.append(order)
        return sign_in_child(order, ask)

    signed = signing(native=native, target=inspected(target))
    assert signed.credentials.state == "trusted"
    assert signed.credentials.ingredients[0].state == "valid"
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["signed.jpg"]
    assert "PRIVATE KEY" not in str(orders)


def test_the_reason_of_a_key_service_comes_through_the_child(signing, dev_authority, tmp_path):
    def outage(data: bytes) -> bytes:
        raise ConnectionError("key service: quota exceeded")

    with pytest.raises(SignerError, match="quota exceeded") as caught:
        signing(CallbackSigner(dev_authority.signer().chain_pem, "es256", outage))
    assert caught.value.code == "signer_failed"
    assert list((tmp_path / "out").iterdir()) == []


class Service:
    """A server on loopback that answers every request the same way and remembers what was asked."""

    def __init__(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        asked: list[tuple[str, bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append((self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.asked = asked
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_the_time_stamp_is_asked_for_by_the_caller_and_a_nonsense_answer_stops_the_signing(
    signing, dev_authority, tmp_path
):
    with Service(200, b"no time stamp at all") as service, pytest.raises(ManifestError) as caught:
        signing(dev_authority.signer(tsa_url=service.url))
    assert caught.value.code == "manifest_signing"
    assert "no time-stamp reply" in caught.value.message
    assert [kind for kind, _ in service.asked] == ["application/timestamp-query"]
    assert service.asked[0][1][:1] == b"\x30"  # a DER sequence: the TimeStampReq of RFC 3161
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("status", "headers"), [(500, {}), (404, {}), (302, {"Location": "http://127.0.0.1:9/elsewhere"})]
)
def test_a_service_that_refuses_or_sends_elsewhere_gives_no_time_stamp(status, headers):
    with Service(status, b"", headers) as service, pytest.raises(TimeStampError) as caught:
        request_time_stamp(service.url, b"0")
    assert caught.value.code == "time_stamp_failed"
    assert len(service.asked) == 1


def test_a_child_that_asks_for_a_second_signature_gets_none(signing):
    answers = []

    def greedy(order, ask):
        answers.append(ask("signature", b"one claim"))
        try:
            answers.append(ask("signature", b"another claim"))
        except ValueError as error:
            raise NativeSigningError("refused") from error
        return {}

    with pytest.raises(SignerError, match="a second signature was asked for"):
        signing(native=greedy)
    assert len(answers) == 1


def test_a_child_that_asks_for_anything_else_gets_nothing(signing, dev_authority):
    with Service(200, b"secret") as service:
        asked = []

        def curious(order, ask):
            for what in ("key", "environment", f"http://{service.url}"):
                try:
                    asked.append(ask(what, b""))
                except ValueError:
                    continue
            raise NativeSigningError("nothing was had")

        with pytest.raises(ManifestError):
            signing(native=curious)
    assert asked == []
    assert service.asked == []


def test_the_child_reads_and_writes_no_other_file_than_the_order_names(signing, plain_media, tmp_path):
    def other_place(order, ask):
        order = {**order, "ingredients": []}
        elsewhere = {**order, "path": str(tmp_path / "elsewhere.jpg")}
        return call(
            "watermark.native_signing:sign_entry",
            elsewhere,
            reads=[plain_media["image/jpeg"]],
            writes=[tmp_path / "out"],
            timeout=30,
        )

    (tmp_path / "elsewhere.jpg").write_bytes(plain_media["image/jpeg"].read_bytes())
    with pytest.raises((ChildError, MediaError)) as caught:
        signing(native=other_place)
    assert "PermissionError" in str(getattr(caught.value, "kind", ""))


def test_a_child_that_hangs_is_ended(signing):
    def slow(order, ask):
        return client.sign_credentials(order, ask, seconds=0.0)

    with pytest.raises(MediaError) as caught:
        signing(native=slow)
    assert caught.value.code == "child_timeout"


def test_the_entry_speaks_base64_and_takes_a_refusal_for_an_end(plain_media, request_for, dev_authority, tmp_path):
    class Channel:
        def __init__(self) -> None:
            self.sent: list[dict] = []

        def send(self, message):
            self.sent.append(message)

        def next_order(self):
            return {"failed": True}

    channel = Channel()
    with pytest.raises(ManifestError):
        sign_file(
            plain_media["image/jpeg"],
            tmp_path / "out.jpg",
            request_for("image/jpeg"),
            dev_authority.signer(),
            native=lambda order, ask: sign_entry(order, channel),
        )
    (message,) = channel.sent
    assert message["ask"] == "signature"
    assert len(base64.b64decode(message["data"])) > 500
