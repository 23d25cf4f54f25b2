"""Signing an output with services that may be away: tried again for a while, then as the operator chose.

The rendered file stays where it is meanwhile and the job under its lease. What cannot be signed after that goes back to
be started again when the services answer (`running.await_signing`); only a missing time stamp may be done without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from watermark import manifest
from watermark.manifest_request import ManifestRequest
from watermark.native_signing import SIGNING_FAILED, STAMP_REFUSED, Ask, NativeSigningError
from watermark.signers import SignerError
from watermark.timestamps import TimeStampError
from webapp import keys_of_house
from webapp.jobs.models import Output
from worker.media import client
from worker.media.errors import ChildError

logger = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds between two tries; about a minute in all
AWAY = frozenset({"signer_unavailable", "tsa_unavailable", "tsa_invalid"})  # errors after which a job waits


@dataclass(frozen=True)
class Signed:
    """The finished file's manifest, and what vouches for its time (`Output.TimeStamp`)."""

    manifest: manifest.SignedManifest
    time_stamp: Output.TimeStamp


def sign(src: Path, dst: Path, request: ManifestRequest, pause: Callable[[float], None]) -> Signed:
    """Sign `src` into `dst`. `pause(seconds)` waits, or raises when the work has become pointless.

    The signer is opened anew for every try: a certificate or key that was mended meanwhile is taken. Raises the errors
    of `manifest.sign_file`; after an outage of all tries, that of the last.
    """
    for seconds in (*PAUSES, None):
        try:
            return _sign(src, dst, request, stamped=True)
        except (SignerError, TimeStampError) as error:
            if error.code not in AWAY:
                raise
            logger.warning("Signing failed for now: %s", error)
            if seconds is not None:
                pause(seconds)
            elif isinstance(error, SignerError) or settings.TSA_WHEN_DOWN == "wait":
                raise
    logger.warning("Signing without a time stamp, as TSA_WHEN_DOWN=publish demands.")
    return _sign(src, dst, request, stamped=False)


def sign_in_child(order: Mapping[str, Any], ask: Ask) -> Mapping[str, Any]:
    """`native` of `manifest.sign_file`: the file and the inputs' manifests are parsed where no key is."""
    try:
        return client.sign_credentials(order, ask)
    except ChildError as error:
        if error.code in (SIGNING_FAILED, STAMP_REFUSED):
            raise NativeSigningError(error.message, error.code) from error
        raise


def _sign(src: Path, dst: Path, request: ManifestRequest, *, stamped: bool) -> Signed:
    tsa = keys_of_house.tsa()
    signed = manifest.sign_file(
        src,
        dst,
        request,
        keys_of_house.signer(),
        anchors_pem=keys_of_house.anchors_pem(),
        tsa=tsa if stamped else None,
        tsa_anchors_pem=keys_of_house.tsa_anchors_pem(),
        native=sign_in_child,
    )
    if tsa is None:
        return Signed(signed, Output.TimeStamp.NONE)
    if not stamped:
        return Signed(signed, Output.TimeStamp.MISSED)
    if signed.credentials.time_source != "tsa":
        logger.warning("The time stamp is there, but TSA_ANCHORS_FILE does not lead to its authority.")
        return Signed(signed, Output.TimeStamp.UNTRUSTED)
    return Signed(signed, Output.TimeStamp.TRUSTED)
