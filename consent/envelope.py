"""The cryptography of the key store, on bytes and streams alone: AES-256-GCM, HKDF, and chunked streams.

Chunks follow the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance", CRYPTO 2015): the nonce holds a counter and a last-chunk flag, so that chunks cannot be
reordered, dropped or cut off unnoticed. Every stream has a key of its own, so nonces never meet.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16
CHUNK = 1 << 20

FIELD_VERSION = b"\x01"
STREAM_MAGIC = b"IMPS\x01"
SALT_SIZE = 32
PREFIX_SIZE = 7  # of the nonce; then 4 bytes counter and 1 byte flag


class EnvelopeError(Exception):
    """Bytes that do not open under their key; `code` is stable."""

    code = "sealed_tampered"
    text = "These stored bytes were changed or belong elsewhere. Nothing was overwritten; restore them from a backup."

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.text)
        self.message = message or self.text


class TamperedError(EnvelopeError):
    """Changed, exchanged or foreign bytes."""


class TruncatedError(EnvelopeError):
    """A stream whose end is missing."""

    code = "sealed_truncated"
    text = "A stored file ends too early. What was read so far is not to be used; restore the file from a backup."


def derive(secret: bytes, purpose: str, salt: bytes | None = None) -> bytes:
    """A 32-byte key for one purpose from a secret of high entropy (HKDF-SHA256, RFC 5869)."""
    return HKDF(SHA256(), KEY_SIZE, salt, f"imprimatur/1/{purpose}".encode()).derive(secret)


def seal(key: bytes, aad: bytes, data: bytes) -> bytes:
    """`data` sealed under a 32-byte key: version, random 96-bit nonce, ciphertext and tag."""
    nonce = os.urandom(NONCE_SIZE)
    return FIELD_VERSION + nonce + AESGCM(key).encrypt(nonce, data, FIELD_VERSION + aad)


def unseal(key: bytes, aad: bytes, sealed: bytes) -> bytes:
    """What `seal` sealed. Raises TamperedError for any other key, associated data or bytes."""
    return unseal_with(AESGCM(key), aad, sealed)


def unseal_with(cipher: AESGCM, aad: bytes, sealed: bytes) -> bytes:
    """As `unseal`, with the cipher of a key that opens many."""
    if len(sealed) < 1 + NONCE_SIZE + TAG_SIZE or sealed[:1] != FIELD_VERSION:
        raise TamperedError
    try:
        return cipher.decrypt(sealed[1 : 1 + NONCE_SIZE], sealed[1 + NONCE_SIZE :], FIELD_VERSION + aad)
    except InvalidTag:
        raise TamperedError from None


def seal_stream(key: bytes, source: BinaryIO, target: BinaryIO, aad: bytes) -> None:
    """Read `source` to its end and write it sealed to `target`, in chunks of 1 MiB; memory does not grow with size."""
    salt, prefix = os.urandom(SALT_SIZE), os.urandom(PREFIX_SIZE)
    cipher = AESGCM(derive(key, "stream", salt))
    target.write(STREAM_MAGIC + salt + prefix)
    counter, chunk = 0, _read(source, CHUNK)
    while True:
        following = _read(source, CHUNK) if len(chunk) == CHUNK else b""
        last = not following
        target.write(cipher.encrypt(_nonce(prefix, counter, last), chunk, STREAM_MAGIC + aad))
        if last:
            return
        counter, chunk = counter + 1, following


def open_stream(key: bytes, source: BinaryIO, target: BinaryIO, aad: bytes) -> None:
    """Write the plain bytes of a sealed stream to `target`.

    Every chunk is authenticated before it is written, but the end only at the end: after an error the caller discards
    what was written. Raises TruncatedError if the end is missing, TamperedError for anything else.
    """
    header = _read(source, len(STREAM_MAGIC) + SALT_SIZE + PREFIX_SIZE)
    if len(header) < len(STREAM_MAGIC) + SALT_SIZE + PREFIX_SIZE:
        raise TruncatedError
    if not header.startswith(STREAM_MAGIC):
        raise TamperedError
    salt, prefix = header[len(STREAM_MAGIC) : -PREFIX_SIZE], header[-PREFIX_SIZE:]
    cipher = AESGCM(derive(key, "stream", salt))
    counter, chunk = 0, _read(source, CHUNK + TAG_SIZE)
    while True:
        following = _read(source, CHUNK + TAG_SIZE) if len(chunk) == CHUNK + TAG_SIZE else b""
        last = not following
        try:
            plain = cipher.decrypt(_nonce(prefix, counter, last), chunk, STREAM_MAGIC + aad)
        except InvalidTag:
            raise _why(cipher, prefix, counter, chunk, aad) if last else TamperedError() from None
        target.write(plain)
        if last:
            return
        counter, chunk = counter + 1, following


def _why(cipher: AESGCM, prefix: bytes, counter: int, chunk: bytes, aad: bytes) -> EnvelopeError:
    """The last bytes there are do not authenticate as the end: cut off, or changed?"""
    if len(chunk) < TAG_SIZE:
        return TruncatedError()
    try:
        cipher.decrypt(_nonce(prefix, counter, False), chunk, STREAM_MAGIC + aad)
    except InvalidTag:
        # A cut inside a chunk and a changed last chunk look alike; neither may be used.
        return TamperedError("A stored file was changed or ends too early. Do not use it; restore it from a backup.")
    return TruncatedError()


def _nonce(prefix: bytes, counter: int, last: bool) -> bytes:
    return prefix + struct.pack(">IB", counter, int(last))


def _read(source: BinaryIO, size: int) -> bytes:
    """Exactly `size` bytes, fewer only at the end; raw streams may return short reads."""
    data = source.read(size) or b""
    while len(data) < size:
        more = source.read(size - len(data))
        if not more:
            break
        data += more
    return data
