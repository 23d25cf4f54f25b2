"""The list of results whose permission ended: written when they are hidden, asked at each screening of an upload."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken

from consent import keys
from watermark import pdq
from watermark.fingerprint import Fingerprint
from watermark.mark_errors import MarkError
from webapp.jobs import repository
from webapp.jobs.models import Output
from webapp.screening.models import StayDown, StayDownPicture

logger = logging.getLogger(__name__)

MOST_PICTURES: Final = 300  # of one video; spread over its length
MOST_ALIKE: Final = 20  # listed pictures that one upload is compared with


def enter(outputs: Sequence[Output]) -> None:
    """Put hidden outputs on the list, in the transaction that hides them. One that is on it stays as it is."""
    for output in outputs:
        entry, made = StayDown.objects.get_or_create(
            mark_id=bytes(output.mark_id), defaults={"reason": output.permission, "spared": _made_from(output)}
        )
        if not made:
            continue
        taken = _spread([taken for taken in _pictures(output.fingerprint) if taken.quality >= pdq.LEAST_QUALITY])
        cipher = _cipher()
        StayDownPicture.objects.bulk_create(
            (
                StayDownPicture(
                    entry=entry,
                    pdq=each.pdq,
                    grid_sealed=cipher.encrypt(json.dumps(each.to_json()).encode()),
                    **repository.bands(each.pdq),
                )
                for each in taken
            ),
            batch_size=200,
        )


class StayDownList:
    """`worker.gate.looks.stay_down.Listed` on the rows, for one upload. `sha256` is the upload's."""

    def __init__(self, sha256: str) -> None:
        self._sha256 = sha256

    def empty(self) -> bool:
        """Is nothing on the list?"""
        return not StayDown.objects.exists()

    def holds_mark(self, mark_id: bytes) -> bool:
        """Is the result with this mark on it?"""
        return StayDown.objects.filter(mark_id=mark_id).exists()

    def like(self, value: bytes) -> Sequence[Fingerprint | None]:
        """The listed pictures within `repository.RADIUS` bits; those made from this very file are left out."""
        rows = StayDownPicture.objects.all()
        found = repository.near(rows, value, repository.RADIUS, "grid_sealed", "entry__spared")
        alike = [bytes(sealed) for _, sealed, spared in found if self._sha256 not in spared]
        return [_grid(sealed, self._cipher) for sealed in alike[:MOST_ALIKE]]

    @cached_property
    def _cipher(self) -> Fernet:
        return _cipher()


def _made_from(output: Output) -> list[str]:
    return sorted({asset.sha256 for asset in output.job.inputs()} - {output.sha256})


def _pictures(raw: Any) -> list[Fingerprint]:
    """The fingerprints of an output's row; one that cannot be read is passed over, the mark still holds."""
    found = []
    for each in raw.get("frames", []) if isinstance(raw, Mapping) else []:
        try:
            found.append(Fingerprint.from_json(each["fingerprint"]))
        except (KeyError, TypeError, ValueError, MarkError):
            continue
    return found


def _spread(found: list[Fingerprint]) -> list[Fingerprint]:
    step = max(1.0, len(found) / MOST_PICTURES)
    return [found[int(number * step)] for number in range(min(len(found), MOST_PICTURES))]


def _grid(sealed: bytes, cipher: Fernet) -> Fingerprint | None:
    try:
        return Fingerprint.from_json(json.loads(cipher.decrypt(sealed)))
    except (InvalidToken, ValueError, MarkError):
        logger.warning("A picture of the stay-down list cannot be read; a person looks at what resembles it.")
        return None


def _cipher() -> Fernet:
    """Under the house's own key: the list must outlive every person's and every file's."""
    return Fernet(base64.urlsafe_b64encode(keys.subkey("stay-down")))
