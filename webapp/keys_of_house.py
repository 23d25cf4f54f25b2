"""The keys the house itself uses: mark keys, the manifest signer, and the certificates it trusts as its own.

Only task processes and the verify page call this; a media child never sees any of it.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from consent import keys
from watermark.keys import MarkKey, derive_mark_key
from watermark.signers import DevelopmentAuthority, FileSigner, Signer
from webapp.profile import is_live

logger = logging.getLogger(__name__)

FIRST_YEAR = 2026  # the first year in which outputs were marked; keys of all years since then are tried on reading


class KeysError(Exception):
    """The house's keys are not set up as a deployment needs them."""

    code = "keys_misconfigured"


def mark_keys() -> list[MarkKey]:
    """The mark key of this year first, then those of all earlier years, newest first.

    After them those of PREVIOUS_DEPLOYMENTS: names the house went by, whose marks must stay readable.
    """
    master = keys.subkey("watermark")
    year = datetime.now(UTC).year
    return [
        derive_mark_key(master, deployment=deployment, year=each)
        for deployment in (settings.DEPLOYMENT, *settings.PREVIOUS_DEPLOYMENTS)
        for each in range(year, min(year, FIRST_YEAR) - 1, -1)
    ]


def mark_key(name: str) -> MarkKey:
    """The mark key recorded under `name`. Raises KeysError for one this house has not."""
    for key in mark_keys():
        if key.name == name:
            return key
    raise KeysError(f"This house has no mark key {name!r}; nothing was changed. Restore the master key it came from.")


def signer() -> Signer:
    """The operator's certificate (SIGNER_CHAIN_FILE, SIGNER_KEY_FILE), else this machine's untrusted development one.

    Raises KeysError when only one of the two files is named, or outside the evaluation profile without them.
    """
    chain, key = settings.SIGNER_CHAIN_FILE, settings.SIGNER_KEY_FILE
    if chain and key:
        return FileSigner(Path(chain), Path(key), tsa_url=settings.TSA_URL or None)
    if chain or key:
        raise KeysError("SIGNER_CHAIN_FILE and SIGNER_KEY_FILE belong together; nothing was signed. Set both or none.")
    if is_live():
        raise KeysError(
            f"The profile {settings.PROFILE} signs with a certificate of its own; nothing was signed. "
            "Set SIGNER_CHAIN_FILE and SIGNER_KEY_FILE."
        )
    logger.warning("Signing with this machine's UNTRUSTED development certificate; nobody else will recognise it.")
    return _authority().signer(tsa_url=settings.TSA_URL or None)


def anchors_pem() -> str:
    """The root certificates (PEM) under which a manifest counts as this house's own.

    SIGNER_ANCHORS_FILE if set, else the end of the operator's chain, else the development root.
    """
    if anchors := settings.SIGNER_ANCHORS_FILE:
        return Path(anchors).read_text(encoding="ascii")
    if chain := settings.SIGNER_CHAIN_FILE:
        end = "-----END CERTIFICATE-----"
        certificates = [part.strip() for part in Path(chain).read_text(encoding="ascii").split(end) if part.strip()]
        return f"{certificates[-1]}\n{end}\n"
    return _authority().root_pem


def _authority() -> DevelopmentAuthority:
    """This machine's development authority, made at the first use."""
    return DevelopmentAuthority.open_or_create(Path(settings.SIGNER_DIR))
