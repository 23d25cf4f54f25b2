"""Signed checkpoints as text: C2SP signed-note and tlog-checkpoint, with Ed25519. Pure.

    https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint

A note is lines of text, an empty line, and signature lines `— name base64(key id || signature)`. A checkpoint's text is
the log's origin, the tree's size and the base64 of its root, a line each.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consent.ledger.errors import LedgerError
from consent.ledger.tree import HASH_BYTES

ED25519 = b"\x01"
LONGEST_NOTE = 1 << 16
_NAME = re.compile(r"[^\s+]{1,200}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Verifier:
    """A public key under a name; `text` is its one-line form, as others configure it."""

    name: str
    public: bytes  # 32 bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name || newline || algorithm || key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    @property
    def text(self) -> str:
        """`name+hex(key id)+base64(algorithm || key)`"""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """From its one-line form. Raises LedgerError note_invalid."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        key = _decoded(encoded)
        if not _NAME.fullmatch(name) or key is None or len(key) != 33 or key[:1] != ED25519:
            raise _invalid("This is not the one-line form of an Ed25519 verifier key")
        found = cls(name, key[1:])
        if found.key_id.hex() != key_id:
            raise _invalid("The key's id does not belong to its name and bytes")
        return found

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Is this key's signature over these bytes right?"""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """A private key under a name; `text` is the one-line form in which it is kept."""

    name: str
    seed: bytes  # 32 bytes

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        return Verifier(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    @property
    def text(self) -> str:
        """`PRIVATE+KEY+name+hex(key id)+base64(algorithm || seed)`"""
        encoded = base64.b64encode(ED25519 + self.seed).decode()
        return f"PRIVATE+KEY+{self.name}+{self.verifier.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> Signer:
        """From its one-line form. Raises LedgerError note_invalid."""
        head, _, rest = text.strip().partition("PRIVATE+KEY+")
        name, _, rest = rest.partition("+")
        key_id, _, encoded = rest.partition("+")
        key = _decoded(encoded)
        if head or not _NAME.fullmatch(name) or key is None or len(key) != 33 or key[:1] != ED25519:
            raise _invalid("This is not the one-line form of an Ed25519 signer key")
        found = cls(name, key[1:])
        if found.verifier.key_id.hex() != key_id:
            raise _invalid("The key's id does not belong to its name and bytes")
        return found

    def sign(self, text: str) -> str:
        """The note: `text` (which ends with a newline) with this key's signature line."""
        if not text.endswith("\n"):
            raise ValueError("the text of a note ends with a newline")
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        encoded = base64.b64encode(self.verifier.key_id + signature).decode()
        return f"{text}\n— {self.name} {encoded}\n"


@dataclass(frozen=True)
class Checkpoint:
    """A tree's head: whose log, how many leaves, which root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def open_note(note: str, verifiers: Sequence[Verifier]) -> str:
    """The signed text of a note on which at least one of these keys' signatures is right.

    A wrong signature by a known key refuses the whole note; unknown keys' lines say nothing. Raises LedgerError
    note_invalid.
    """
    if len(note) > LONGEST_NOTE:
        raise _invalid("The note is too long")
    body, separator, tail = note.rpartition("\n\n")
    text = body + "\n"
    if not separator or not tail.endswith("\n") or any(ord(char) < 0x20 and char != "\n" for char in note):
        raise _invalid("This is not a signed note")
    good = 0
    for line in tail[:-1].split("\n"):
        mark, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        signature = _decoded(encoded)
        if mark != "—" or not _NAME.fullmatch(name) or signature is None or len(signature) < 5:
            raise _invalid("A signature line of the note is malformed")
        for verifier in verifiers:
            if verifier.name == name and verifier.key_id == signature[:4]:
                if not verifier.verify(text.encode(), signature[4:]):
                    raise _invalid("A signature on the note is wrong")
                good += 1
    if not good:
        raise _invalid("No known key has signed the note")
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """The tree head in a note's text; extension lines are passed over. Raises LedgerError note_invalid."""
    lines = text.split("\n")
    root = _decoded(lines[2]) if len(lines) >= 4 else None
    if len(lines) < 4 or not lines[0] or not _SIZE.fullmatch(lines[1]) or root is None or len(root) != HASH_BYTES:
        raise _invalid("The text is not that of a checkpoint")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_checkpoint(note: str, verifiers: Sequence[Verifier], origin: str = "") -> Checkpoint:
    """The tree head of a signed checkpoint, of this origin if one is named. Raises LedgerError note_invalid."""
    found = parse_checkpoint(open_note(note, verifiers))
    if origin and found.origin != origin:
        raise _invalid("The checkpoint is another log's")
    return found


def _decoded(text: str) -> bytes | None:
    """Strict base64, or None; an encoding that is not the canonical one counts as wrong."""
    try:
        found = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if base64.b64encode(found).decode() == text else None


def _invalid(what: str) -> LedgerError:
    return LedgerError("note_invalid", f"{what}. Nothing was changed; get the file again from its source.", status=422)
