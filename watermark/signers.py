"""Who signs our manifests: a key file, a key service behind a callback, or the development authority."""

from __future__ import annotations

from pathlib import Path

from watermark.authority import CHAIN_FILE, KEY_FILE, ROOT_FILE, ROOT_KEY_FILE, DevelopmentAuthority
from watermark.key_signers import CallbackSigner, FileSigner, Signer, SignerError, leaf_expiry, remaining_life

__all__ = [
    "CallbackSigner",
    "DevelopmentAuthority",
    "FileSigner",
    "Signer",
    "SignerError",
    "anchors_of",
    "leaf_expiry",
    "open_signer",
    "remaining_life",
]


def open_signer(folder: Path) -> Signer:
    """The signer kept in `folder`: the development authority when its root key is there, else chain.pem + signer.key.

    Raises SignerError (signer_missing, signer_invalid).
    """
    if (folder / ROOT_KEY_FILE).exists():
        return DevelopmentAuthority.open(folder).signer()
    return FileSigner(folder / CHAIN_FILE, folder / KEY_FILE)


def anchors_of(folder: Path) -> str:
    """PEM of root.pem in `folder`: the anchors under which our own signatures are recognised. Raises SignerError."""
    try:
        return (folder / ROOT_FILE).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SignerError(
            "signer_missing",
            "root.pem, the anchor of our own signatures, cannot be read. Nothing was changed. "
            "Put the root certificate of the signing chain there, or run `manage.py certs init-dev`.",
        ) from error
