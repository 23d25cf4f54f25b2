"""RFC 3161 time stamps in our signatures: what is asked for, and where the answer lies.

C2PA 2.4 section 10.3.2.5 (`sigTst2`): the stamp is over a counter-signature structure of COSE (RFC 9052 section 4.4)
whose payload is the signature, and stands in the unprotected header, which the signature does not cover. The library
leaves padding there; the stamp takes its place, so that no length changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

_COSE_SIGN1 = b"\xd2\x84"  # tag 18, an array of four
_PAD = b"\x63pad"


class StampingError(Exception):
    """The signature is not as the library writes it, so no time stamp can be put into it."""


class StampTooLongError(StampingError):
    """The time stamp does not fit into the padding that the library left."""


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

    Raises StampingError when it is not as the library writes it.
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
    stamped_bytes = b"\x84\x70CounterSignature" + protected + b"\x40" + signature
    builder = TimestampRequestBuilder().data(stamped_bytes).hash_algorithm(HashAlgorithm.SHA256)
    return bytes(builder.nonce(nonce=True).cert_request(cert_request=True).build().as_bytes())


def stamped(store: bytes, place: SignaturePlace, token: bytes) -> bytes:
    """The store with the token in its signature's unprotected header, as long as before. Raises StampTooLongError."""
    entry = b"\x67sigTst2\xa1\x69tstTokens\x81\xa1\x63val" + _cbor_bytes(token)
    room = place.padding_end - place.header - 1 - len(entry) - len(_PAD)
    for size in range(max(0, room - 5), room):
        padding = _cbor_bytes(bytes(size))
        if len(padding) == room:
            return store[: place.header] + b"\xa2" + entry + _PAD + padding + store[place.padding_end :]
    raise StampTooLongError(f"the time stamp is too long for the signature ({len(token)} bytes)")


def _odd() -> StampingError:
    return StampingError("the signature is not as the library writes it")


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
    raise StampTooLongError("the time stamp is too long")
