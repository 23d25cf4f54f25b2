"""What drf-spectacular must be told: the key scheme, and the problems every address may answer with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema

from consent.levels import LEVELS
from webapp.api import forms
from webapp.api.errors import CONTENT_TYPE
from webapp.api.shapes import Problem
from webapp.jobs.models import Asset, Job
from webapp.jobs.options import PURPOSES
from webapp.verify.models import Verification

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Up to 255 printable characters. The same request with the same key is carried out once (24 hours).",
)
PAGE = [
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 100, default 20."),
    OpenApiParameter("cursor", OpenApiTypes.STR, description="`next_cursor` of the page before."),
]


# Names for sets of words that occur under the same field name in several shapes.
ENUM_NAMES = {
    "AssetRoleEnum": Asset.Role.values,
    "ConsentRoleEnum": forms.ROLES,
    "MediaKindEnum": forms.MEDIA_KINDS,
    "AttestationKindEnum": forms.ATTESTATION_KINDS,
    "AssuranceEnum": LEVELS,
    "PurposeEnum": PURPOSES,
    "AssetStateEnum": Asset.State.values,
    "JobStateEnum": Job.State.values,
    "VerificationStateEnum": Verification.State.values,
}


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """`Authorization: Bearer imp_live_…`"""

    target_class = "webapp.accounts.auth.ApiKeyAuthentication"
    name = "partnerKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """The OpenAPI security scheme."""
        return {"type": "http", "scheme": "bearer", "description": "A partner key: imp_live_<prefix>_<secret>."}


def documented(
    operation: str, summary: str, responses: dict[Any, Any], *problems: int, **more: Any
) -> Callable[[Any], Any]:
    """`extend_schema` with this house's problems: 401 and 406 everywhere that needs a key, and those named."""
    answers = dict(responses)
    for status in problems:
        answers[(status, CONTENT_TYPE)] = Problem
    return extend_schema(operation_id=operation, summary=summary, responses=answers, **more)
