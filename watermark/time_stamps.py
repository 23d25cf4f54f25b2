"""RFC 3161 time stamps of our signatures: the question, the answer, and their place in the signature.

C2PA 2.4 section 10.3.2.5 (`sigTst2`): the stamp is over a counter-signature structure of COSE (RFC 9052 section 4.4)
whose payload is the signature, and stands in the unprotected header, which the signature does not cover. The library
leaves padding there; the stamp takes its place, so that no length changes.
"""

from __future__ import annotations

import hashlib
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass

_SECONDS = 10.0
_MAX_REPLY = 1 << 18
_SHA256 = bytes.fromhex("300d06096086480165030402010500")  # AlgorithmIdentifier
_GRANTED = (0, 1)
_COSE_SIGN1 = b"\xd2\x84"  # tag 18, an array of four
_PAD = b"\x63pad"


class TimeStampError(Exception):
    """There is no time stamp. `code`: time_stamp_failed."""

    code = "time_stamp_failed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The operator named one address; no other is asked in its place."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def request_time_stamp(url: str, query: bytes) -> bytes:
    """POST a TimeStampReq (DER) and return the reply's bytes (RFC 3161 section 3.4). Raises TimeStampError."""
    try:
        request = urllib.request.Request(url, query, {"Content-Type": "application/timestamp-query"})  # noqa: S310
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS) as answer:
            return bytes(answer.read(_MAX_REPLY))
    except (OSError, ValueError) as error:
        raise TimeStampError(f"the time-stamp service gave no answer: {error}") from error


@dataclass(frozen=True)
class SignaturePlace:
    """Where in a store the parts of a COSE_Sign1 begin and end.

    The protected header ends where the unprotected one begins, a map with the padding as its one entry.
    """

    protected: int
    header: int
    padding_end: int
    signature: int
    signature_end: int


def find_signature(store: bytes) -> SignaturePlace:
    """The signature of the active manifest, which is the last one of a store (C2PA 2.4 section 11.1.4).

    Raises TimeStampError when it is not as the library writes it.
    """
    box = store.rfind(b"c2pa.signature\0")
    cose = store.find(_COSE_SIGN1, box)
    if box < 0 or cose < 0:
        raise _odd()
    _, header = _byte_string(store, cose + 2)
    if store[header : header + 5] != b"\xa1" + _PAD:
        raise _odd()
    _, padding_end = _byte_string(store, header + 5)
    if store[padding_end : padding_end + 1] != b"\xf6":  # the payload is detached
        raise _odd()
    _, end = _byte_string(store, padding_end + 1)
    return SignaturePlace(cose + 2, header, padding_end, padding_end + 1, end)


def query_for(store: bytes, place: SignaturePlace) -> bytes:
    """A TimeStampReq (RFC 3161 section 2.4.1) with SHA-256, a nonce, and the wish for the service's certificate."""
    signature = _cbor_bytes(store[place.signature : place.signature_end])
    protected = store[place.protected : place.header]
    imprint = hashlib.sha256(b"\x84\x70CounterSignature" + protected + b"\x40" + signature).digest()
    nonce = bytes([secrets.randbelow(0x7F) + 1]) + secrets.token_bytes(7)  # positive, and not short
    parts = b"\x02\x01\x01" + _der(0x30, _SHA256 + _der(0x04, imprint)) + _der(0x02, nonce) + b"\x01\x01\xff"
    return _der(0x30, parts)


def token_of(reply: bytes) -> bytes:
    """The TimeStampToken of a TimeStampResp (RFC 3161 section 2.4.2). Raises TimeStampError for a refusal."""
    try:
        body, _ = _contents(reply, 0, 0x30)
        status, after = _contents(body, 0, 0x30)
        value, _ = _contents(status, 0, 0x02)
        if int.from_bytes(value, "big") not in _GRANTED:
            raise TimeStampError(f"the time-stamp service refused (status {int.from_bytes(value, 'big')})")
        _, end = _contents(body, after, 0x30)
    except (IndexError, ValueError) as error:
        raise TimeStampError("the answer of the time-stamp service is no time-stamp reply") from error
    return body[after:end]


def stamped(store: bytes, place: SignaturePlace, token: bytes) -> bytes:
    """The store with the token in its signature's unprotected header, as long as before. Raises TimeStampError."""
    entry = b"\x67sigTst2\xa1\x69tstTokens\x81\xa1\x63val" + _cbor_bytes(token)
    room = place.padding_end - place.header - 1 - len(entry) - len(_PAD)
    for size in range(max(0, room - 5), room):
        padding = _cbor_bytes(bytes(size))
        if len(padding) == room:
            return store[: place.header] + b"\xa2" + entry + _PAD + padding + store[place.padding_end :]
    raise TimeStampError(f"the time stamp is too long for the signature ({len(token)} bytes)")


def _odd() -> TimeStampError:
    return TimeStampError("the signature is not as the library writes it")


def _byte_string(data: bytes, place: int) -> tuple[int, int]:
    """Where the content of a CBOR byte string of definite length begins and ends (RFC 8949 section 3)."""
    try:
        kind, size = data[place] >> 5, data[place] & 31
    except IndexError:
        raise _odd() from None
    begin = place + 1
    if size >= 24:
        width = {24: 1, 25: 2, 26: 4}.get(size, 0)
        begin, size = begin + width, int.from_bytes(data[begin : begin + width], "big")
    if kind != 2 or (begin == place + 1 and data[place] & 31 >= 24) or begin + size > len(data):
        raise _odd()
    return begin, begin + size


def _cbor_bytes(data: bytes) -> bytes:
    size = len(data)
    if size < 24:
        return bytes([0x40 | size]) + data
    for code, width in ((0x58, 1), (0x59, 2), (0x5A, 4)):
        if size < 1 << 8 * width:
            return bytes([code]) + size.to_bytes(width, "big") + data
    raise TimeStampError("the time stamp is too long")


def _der(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content  # questions stay below 128 bytes


def _contents(data: bytes, place: int, tag: int) -> tuple[bytes, int]:
    """The content of the DER element at `place` and where it ends (X.690 section 8.1)."""
    if data[place] != tag:
        raise ValueError("another element")
    size, begin = data[place + 1], place + 2
    if size & 0x80:
        width = size & 0x7F
        begin, size = begin + width, int.from_bytes(data[begin : begin + width], "big")
    if begin + size > len(data):
        raise ValueError("ends early")
    return data[begin : begin + size], begin + size
