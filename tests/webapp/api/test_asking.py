"""Whoever is asked is shown the files, so only screened ones may be asked about."""

from __future__ import annotations

import pytest

from consent.models import Consent
from tests.webapp import cast
from webapp.jobs.models import Asset

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", [Asset.State.IN_REVIEW, Asset.State.UPLOADED])
@pytest.mark.parametrize("unscreened", ["source", "target"])
def test_a_partner_cannot_ask_about_a_file_that_is_not_screened(
    cleo: cast.Account, unscreened: str, state: str
) -> None:
    files = {role: cast.ready(cleo, role) for role in ("source", "target")}
    Asset.objects.filter(pk=files[unscreened].pk).update(state=state)
    body = {
        "role": "face_donor",
        "name": "Ada",
        "purposes": ["personal"],
        "photos": [{"asset": files["source"].pk, "face": 0}],
        "target": {"asset": files["target"].pk, "face": 0},
    }
    answer = cleo.browser.post("/v1/consent_requests", body, content_type="application/json", headers=cleo.api)
    assert (answer.status_code, answer.json()["code"]) == (409, "asset_not_screened")
    assert Consent.objects.count() == 0
    Asset.objects.update(state=Asset.State.READY)
    answer = cleo.browser.post("/v1/consent_requests", body, content_type="application/json", headers=cleo.api)
    assert answer.status_code == 201
