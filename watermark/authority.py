"""The development authority: root, intermediate and leaf in one folder, renewed by themselves, trusted by nobody."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from watermark import issuing
from watermark.key_signers import FileSigner, SignerError, remaining_life

CHAIN_FILE = "chain.pem"  # leaf first, then intermediates; the root stays out
KEY_FILE = "signer.key"
ROOT_FILE = "root.pem"
ROOT_KEY_FILE = "root.key"
INTERMEDIATE_FILE = "intermediate.pem"
INTERMEDIATE_KEY_FILE = "intermediate.key"
LOCK_FILE = ".lock"
RENEW_BEFORE = timedelta(days=30)


class DevelopmentAuthority:
    """Root, intermediate and leaf in one folder, for evaluation and tests. Every certificate says UNTRUSTED."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make the issuing. Raises SignerError signer_exists rather than replacing keys that signed something."""
        made = cls(folder)
        with made._locked():
            # A root key without its certificate is a creation that was cut off: start it again.
            foreign = (folder / CHAIN_FILE).exists() and not (folder / ROOT_KEY_FILE).exists()
            if (folder / ROOT_FILE).exists() or foreign:
                raise SignerError(
                    "signer_exists",
                    "There is a signer in this folder already. Nothing was changed. "
                    "Use it, or choose an empty folder if new certificates are really wanted.",
                )
            root = issuing.issue_root()
            intermediate = issuing.issue_intermediate(root)
            made._write_secret(ROOT_KEY_FILE, root.key_pem)
            made._write_secret(INTERMEDIATE_KEY_FILE, intermediate.key_pem)
            made._write(INTERMEDIATE_FILE, intermediate.certificate_pem.encode())
            made._write_leaf(issuing.issue_leaf(intermediate), intermediate)
            # Last: its presence is what says that the folder is complete.
            made._write(ROOT_FILE, root.certificate_pem.encode())
        return made

    @classmethod
    def open(cls, folder: Path, now: datetime | None = None) -> Self:
        """Open an authority and renew its leaf when fewer than 30 days are left, or key and leaf differ."""
        found = cls(folder)
        if not (folder / ROOT_FILE).exists() or not (folder / ROOT_KEY_FILE).exists():
            raise SignerError(
                "signer_missing",
                "There is no development authority in this folder. Nothing was changed. "
                "Run `manage.py certs init-dev`.",
            )
        if found._needs_renewal(now):
            with found._locked():
                if found._needs_renewal(now):  # another process may have renewed while this one waited
                    found._renew(now)
        return found

    @classmethod
    def open_or_create(cls, folder: Path) -> Self:
        """Open the authority of `folder`, making it at the first use; safe when several processes start at once."""
        if not (folder / ROOT_FILE).exists():
            try:
                return cls.create(folder)
            except SignerError as error:
                if error.code != "signer_exists":
                    raise
        return cls.open(folder)

    @property
    def root_pem(self) -> str:
        """The root certificate: the anchor under which this authority's signatures are recognised."""
        return (self.folder / ROOT_FILE).read_text(encoding="ascii")

    def signer(self) -> FileSigner:
        """A signer with the current leaf."""
        with self._locked():  # a renewal in another process replaces two files
            return self._load()

    def rotate(self, now: datetime | None = None) -> None:
        """A new key and leaf under the same root. Who signs meanwhile has the old or the new pair, never half of each.

        Raises SignerError signer_invalid when the authority is damaged; then nothing changed.
        """
        with self._locked():
            self._renew(now)

    def _load(self) -> FileSigner:
        return FileSigner(self.folder / CHAIN_FILE, self.folder / KEY_FILE)

    def _needs_renewal(self, now: datetime | None) -> bool:
        try:
            chain = self._load().chain_pem
        except SignerError:
            return True
        return remaining_life(chain, now) < RENEW_BEFORE

    def _renew(self, now: datetime | None) -> None:
        try:
            intermediate = self._issued(INTERMEDIATE_FILE, INTERMEDIATE_KEY_FILE)
            if remaining_life(intermediate.certificate_pem, now) < issuing.LEAF_LIFE:
                intermediate = issuing.issue_intermediate(self._issued(ROOT_FILE, ROOT_KEY_FILE), now)
                self._write_secret(INTERMEDIATE_KEY_FILE, intermediate.key_pem)
                self._write(INTERMEDIATE_FILE, intermediate.certificate_pem.encode())
        except (OSError, ValueError) as error:
            raise SignerError(
                "signer_invalid",
                f"The development authority is damaged ({error}), so its signing certificate cannot be renewed. "
                "Nothing was changed. Restore the folder from a backup or make a new authority elsewhere.",
            ) from error
        self._write_leaf(issuing.issue_leaf(intermediate, now), intermediate)

    def _issued(self, certificate: str, key: str) -> issuing.Issued:
        return issuing.load_issued((self.folder / certificate).read_bytes(), (self.folder / key).read_bytes())

    def _write_leaf(self, leaf: issuing.Issued, intermediate: issuing.Issued) -> None:
        self._write_secret(KEY_FILE, leaf.key_pem)
        self._write(CHAIN_FILE, (leaf.certificate_pem + intermediate.certificate_pem).encode())

    def _write_secret(self, name: str, content: bytes) -> None:
        self._write(name, content, mode=0o600)

    def _write(self, name: str, content: bytes, mode: int = 0o644) -> None:
        temporary = self.folder / f".{name}.{secrets.token_hex(4)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
