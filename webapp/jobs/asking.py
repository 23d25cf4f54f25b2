"""Asking a depicted person: only about files that have passed their screening, for they will be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consent import services as consent_services
from consent.models import Consent
from consent.services import PhotoRef, TargetRef
from webapp.jobs.errors import JobsError, not_found
from webapp.jobs.models import Asset


def request_consent(
    *,
    organisation_id: str,
    photos: Sequence[PhotoRef],
    target: TargetRef | None = None,
    targets: Sequence[TargetRef] = (),
    **asked: Any,
) -> tuple[Consent, str]:
    """Ask one person (`consent.services.request_consent`) about files that are ready; the consent and the link's token.

    Raises JobsError asset_not_screened (409), not_found (404); ConsentError as the consent's own service.
    """
    targets = [*([target] if target is not None else []), *targets]
    for asset_id in [*(each.asset_id for each in photos), *(each.asset_id for each in targets)]:
        asset = Asset.objects.filter(pk=asset_id, organisation=organisation_id).first()
        if asset is None:
            raise not_found("asset")
        if asset.state != Asset.State.READY or asset.erased_at is not None:
            raise JobsError(
                "asset_not_screened",
                f"The file {asset_id} has not passed its screening, so nobody can be shown it; nobody was asked. "
                "Wait until its state is ready.",
                status=409,
            )
    return consent_services.request_consent(
        organisation_id=organisation_id, photos=list(photos), targets=targets, **asked
    )
