"""A new certificate for a signer that is at work: checked first, then put in place so that nobody sees half of it.

Short-lived certificates are exchanged while workers sign. A signer is read from its files for every output, so the new
one is in force for the next file. Chain and key are two files: whoever reads and whoever replaces them hold the same
lock, and what a reader finds torn all the same (replaced by other hands) it reads once more.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watermark.certificates import Finding, check_signer
from watermark.key_signers import FileSigner, Signer, SignerError

LOCK_FILE = ".signer.lock"


def open_files(chain: Path, key: Path) -> FileSigner:
    """The signer of these two files, never half of an old and half of a new one. Raises SignerError."""
    with _locked(chain, exclusive=False):
        try:
            return FileSigner(chain, key)
        except SignerError as error:
            if error.code != "signer_invalid":
                raise
            return FileSigner(chain, key)


def read_chain(chain: Path) -> str:
    """The certificates beside a key that lies elsewhere. Raises SignerError signer_missing."""
    try:
        with _locked(chain, exclusive=False):
            return chain.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SignerError(
            "signer_missing",
            "The signing certificate cannot be read. Nothing was signed or changed. Correct SIGNER_CHAIN_FILE.",
            f"{error.__class__.__name__}: {error}",
        ) from error


def unfit(signer: Signer, anchors_pem: str) -> list[Finding]:
    """Why a new signer must not take the place of the old one, worst first; empty when it may. Tries its key once."""
    return [finding for finding in check_signer(signer, anchors_pem) if finding.fatal]


def install(chain: Path, chain_pem: str, *, key: Path | None = None, key_pem: bytes | None = None) -> None:
    """Put a checked chain, and with it its key, in the place of the old ones. Raises OSError; then nothing changed.

    Both new files lie on the disk before the first of them gets its name.
    """
    made: list[tuple[Path, Path]] = []
    try:
        if key is not None and key_pem is not None:
            made.append((_written(key, key_pem, 0o600), key))
        made.append((_written(chain, chain_pem.encode("ascii"), 0o644), chain))
        with _locked(chain, exclusive=True):
            for temporary, path in made:
                temporary.replace(path)
    finally:
        for temporary, _ in made:
            temporary.unlink(missing_ok=True)
    descriptor = os.open(chain.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written(path: Path, content: bytes, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary


@contextmanager
def _locked(chain: Path, *, exclusive: bool) -> Iterator[None]:
    """The lock beside the chain. A reader on a read-only folder, where nobody rotates, goes without it."""
    path = chain.with_name(LOCK_FILE)
    try:
        flags = os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY
        descriptor = os.open(path, flags, 0o644)
    except OSError:
        if exclusive:
            raise
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
