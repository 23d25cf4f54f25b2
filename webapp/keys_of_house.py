"""The keys the house itself uses: mark keys, the manifest signer, and the certificates it trusts as its own.

Only task processes and the verify page call this; a media child never sees any of it.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.conf import settings

from consent import keys
from watermark import rotation
from watermark.aigc import aigc_label
from watermark.key_services import open_key, service_signer
from watermark.keys import MarkKey, derive_mark_key
from watermark.signers import DevelopmentAuthority, Signer
from watermark.timestamps import TimeStampService
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
    """The operator's signer: SIGNER_CHAIN_FILE with SIGNER_KEY_FILE or SIGNER_KEY_URI; else the development one.

    Made anew for every file, so that a rotated certificate or key is taken for the next one. A key service is asked for
    its public key: that it answers, and that the chain is this key's, is known before anything is rendered. Raises
    KeysError when only one half is named, or outside the evaluation profile without both; SignerError.
    """
    chain, key, uri = settings.SIGNER_CHAIN_FILE, settings.SIGNER_KEY_FILE, settings.SIGNER_KEY_URI
    if key and uri:
        raise KeysError("SIGNER_KEY_FILE and SIGNER_KEY_URI exclude each other; nothing was signed. Unset one of them.")
    if chain and key:
        return rotation.open_files(Path(chain), Path(key))
    if chain and uri:
        pem = rotation.read_chain(Path(chain))
        return service_signer(pem, open_key(uri, pin=settings.SIGNER_PIN, endpoint=settings.SIGNER_ENDPOINT))
    if chain or key or uri:
        raise KeysError(
            "SIGNER_CHAIN_FILE and SIGNER_KEY_FILE (or SIGNER_KEY_URI) belong together; nothing was signed. "
            "Set both or none."
        )
    if is_live():
        raise KeysError(
            f"The profile {settings.PROFILE} signs with a certificate of its own; nothing was signed. "
            "Set SIGNER_CHAIN_FILE, and SIGNER_KEY_FILE or SIGNER_KEY_URI."
        )
    logger.warning("Signing with this machine's UNTRUSTED development certificate; nobody else will recognise it.")
    return _authority().signer()


def anchors_pem() -> str:
    """The root certificates (PEM) under which a manifest counts as this house's own.

    SIGNER_ANCHORS_FILE if set, else the end of the operator's chain, else the development root. Raises KeysError.
    """
    if settings.SIGNER_ANCHORS_FILE:
        return "".join(_certificates("SIGNER_ANCHORS_FILE"))
    if settings.SIGNER_CHAIN_FILE:
        return _certificates("SIGNER_CHAIN_FILE")[-1]
    return _authority().root_pem


def tsa() -> TimeStampService | None:
    """The time-stamp service of TSA_URL, or None. Raises KeysError for an address that is none."""
    if not settings.TSA_URL:
        return None
    try:
        return TimeStampService(settings.TSA_URL)
    except ValueError as error:
        raise KeysError(f"TSA_URL cannot be used: {error}; nothing was signed. Correct it.") from error


def tsa_anchors_pem() -> str:
    """The roots (PEM) under which a time stamp is believed: TSA_ANCHORS_FILE, or none. Raises KeysError."""
    return "".join(_certificates("TSA_ANCHORS_FILE")) if settings.TSA_ANCHORS_FILE else ""


def aigc(mark_id: bytes) -> str:
    """China's metadata label for the output with this mark, in the name of AIGC_PRODUCER or of this deployment."""
    return aigc_label(settings.AIGC_PRODUCER or f"Imprimatur {settings.DEPLOYMENT}", mark_id.hex())


def check_services() -> None:
    """Would a signature be made now? Asked before a render that follows an outage. Raises SignerError, TimeStampError.

    A time stamp that the operator would do without is not asked for.
    """
    service = tsa()
    signer().sign(b"Imprimatur: does this key answer?")
    if service is not None and settings.TSA_WHEN_DOWN == "wait":
        service.probe()


def _certificates(setting: str) -> list[str]:
    """The certificates in the file that a setting names, PEM each."""
    try:
        found = x509.load_pem_x509_certificates(Path(getattr(settings, setting)).read_bytes())
    except (OSError, ValueError) as error:
        raise KeysError(
            f"The certificates of {setting} cannot be read ({error}); nothing was changed. Correct it."
        ) from error
    return [each.public_bytes(Encoding.PEM).decode() for each in found]


def _authority() -> DevelopmentAuthority:
    """This machine's development authority, made at the first use."""
    return DevelopmentAuthority.open_or_create(Path(settings.SIGNER_DIR))
