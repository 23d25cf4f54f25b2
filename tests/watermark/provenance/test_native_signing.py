"""The native half of signing in a media child: what it may ask for, and what it cannot have."""

from __future__ import annotations

import base64
import shutil

import pytest

from tests.watermark.provenance import tsa_stand_in
from tests.watermark.provenance.strangers import foreign, inspected
from watermark.key_signers import SignerError
from watermark.manifest import sign_file
from watermark.manifest_request import ManifestError
from watermark.native_signing import NativeSigningError, sign_entry
from watermark.signers import CallbackSigner
from watermark.timestamps import TimeStampError, TimeStampService
from webapp.jobs.signing import sign_in_child
from worker.media import client
from worker.media.errors import ChildError, MediaError
from worker.media.sandbox import call


@pytest.fixture
def signing(plain_media, request_for, dev_authority, tmp_path):
    """Sign a JPEG in a media child, with whatever signer and request."""

    def do(signer=None, native=sign_in_child, tsa=None, **changes):
        return sign_file(
            plain_media["image/jpeg"],
            tmp_path / "out" / "signed.jpg",
            request_for("image/jpeg", **changes),
            signer or dev_authority.signer(),
            anchors_pem=dev_authority.root_pem,
            tsa=tsa,
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


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("the time-stamp authority of this test is openssl's")
    with tsa_stand_in.serving(tmp_path_factory.mktemp("tsa")) as made:
        yield made


def test_a_child_without_network_gets_its_time_stamp_from_its_caller(signing, authority):
    signed = signing(tsa=TimeStampService(authority.url))
    assert signed.store.count(b"sigTst2") == 1
    assert len(authority.asked) == 1


def test_why_there_is_no_time_stamp_comes_through_the_child(signing, authority, tmp_path):
    authority.behave = lambda right, handler: tsa_stand_in.answer(handler, b"", 503)
    try:
        with pytest.raises(TimeStampError, match="503") as caught:
            signing(tsa=TimeStampService(authority.url))
    finally:
        authority.behave = None
    assert caught.value.code == "tsa_unavailable"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_stamp_that_does_not_hold_is_said_to_be_none_by_the_child(signing, authority, tmp_path):
    authority.behave = lambda right, handler: tsa_stand_in.answer(handler, right[:-1] + bytes([right[-1] ^ 1]))
    try:
        with pytest.raises(TimeStampError, match="not a time stamp of this signature") as caught:
            signing(tsa=TimeStampService(authority.url))
    finally:
        authority.behave = None
    assert caught.value.code == "tsa_invalid"
    assert list((tmp_path / "out").iterdir()) == []


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


def test_a_child_that_asks_for_anything_else_gets_nothing(signing, authority):
    count = len(authority.asked)
    asked = []

    def curious(order, ask):
        for what in ("key", "environment", authority.url):
            try:
                asked.append(ask(what, b""))
            except ValueError:
                continue
        raise NativeSigningError("nothing was had")

    with pytest.raises(ManifestError):
        signing(native=curious, tsa=TimeStampService(authority.url))
    assert asked == []
    assert len(authority.asked) == count


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
