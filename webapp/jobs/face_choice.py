"""Which face of an upload is meant. Where there are several, somebody has to say; none is taken in silence."""

from __future__ import annotations

from typing import Any

from webapp.jobs.errors import JobsError
from webapp.jobs.models import Asset
from worker.limits import MIN_FACE_PIXELS

State = Asset.State


def face_indices(asset: Asset) -> set[int]:
    """The numbers by which faces (photo) or tracks (video) of an analysed asset are picked."""
    return {int(face.get("index", position)) for position, face in enumerate(asset.faces)}


def face_facts(asset: Asset, face: int) -> dict[str, Any]:
    """What is known of one face or track of an asset; nothing where it was not analysed yet or has no such face."""
    return next((each for place, each in enumerate(asset.faces) if int(each.get("index", place)) == face), {})


def chosen_face(asset: Asset, face: int | None) -> int:
    """The face `face` of an asset, or its only one if none is named.

    Raises JobsError: face_choice_required when it has several and none is named, asset_not_ready (409) when none is
    named and they are not counted yet, face_unknown, face_too_small, asset_refused, asset_failed.
    """
    if asset.state in {State.REFUSED, State.FAILED}:
        raise JobsError(f"asset_{asset.state}", f"The file {asset.pk} cannot be used: {asset.failure_message}")
    if asset.state in {State.UPLOADED, State.SCREENING}:
        if face is not None:
            return face  # looked for as soon as the asset is analysed
        raise JobsError(
            "asset_not_ready",
            f"The file {asset.pk} is still being checked, so its faces are not known yet; nothing was made. "
            "Wait until its state is ready, or name the face.",
            status=409,
        )
    sizes = {int(each.get("index", position)): each.get("size") for position, each in enumerate(asset.faces)}
    known = sorted(sizes)
    if face is None:
        if len(known) == 1:
            face = known[0]
        elif known:
            raise JobsError(
                "face_choice_required",
                f"The file {asset.pk} shows {len(known)} faces and none was chosen; nothing was made. "
                f"Choose one of {', '.join(map(str, known[:16]))}.",
            )
    if face not in known:
        which = "no face" if face is None else f"no face {face}"
        raise JobsError("face_unknown", f"The file {asset.pk} has {which}; nothing was made. Pick another.")
    size = sizes[face]
    if size is not None and size < MIN_FACE_PIXELS:
        # The gate lets a file pass for its largest face; the one that was picked has to be large enough as well.
        raise JobsError(
            "face_too_small",
            f"Face {face} of the file {asset.pk} is {size:.0f} pixels large, less than {MIN_FACE_PIXELS}; "
            "nothing was made. Pick a larger one, or use a larger picture.",
        )
    return face
