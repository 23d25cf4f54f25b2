"""The small pictures a person is shown. The web side, which holds the files, registers how to make them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from consent.models import Consent

logger = logging.getLogger(__name__)

Preview = Callable[[str, int], bytes]

_registered: dict[str, Preview] = {}


class PreviewMissingError(Exception):
    """A picture that is asked about cannot be shown."""

    code = "pictures_missing"


def register_preview(preview: Preview) -> None:
    """`preview(asset_id, face)` returns a small JPEG with that face marked; it raises when there is none."""
    _registered["preview"] = preview


def photo(consent: Consent, index: int) -> bytes:
    """JPEG of the source photo at `index`. Raises PreviewMissingError."""
    if not 0 <= index < len(consent.photos):
        raise PreviewMissingError
    wanted = consent.photos[index]
    return _picture(wanted["asset_id"], wanted["face"])


def target(consent: Consent, index: int = 0) -> bytes:
    """JPEG of the target at `index`, the face in question marked. Raises PreviewMissingError."""
    if not 0 <= index < len(consent.targets):
        raise PreviewMissingError
    wanted = consent.targets[index]
    return _picture(wanted["asset_id"], wanted["face"])


def all_there(consent: Consent) -> bool:
    """Can everything that is asked about be shown? Nobody can agree to what they cannot see."""
    try:
        for index in range(len(consent.photos)):
            photo(consent, index)
        for index in range(len(consent.targets)):
            target(consent, index)
    except PreviewMissingError:
        return False
    return True


def _picture(asset_id: str, face: int) -> bytes:
    preview = _registered.get("preview")
    if preview is None:
        raise PreviewMissingError
    try:
        return preview(asset_id, face)
    except Exception as error:
        # Whatever the reason (erased, refused, storage): the page says so and does not offer a yes.
        logger.warning("No preview of %s: %s", asset_id, type(error).__name__)
        raise PreviewMissingError from error
