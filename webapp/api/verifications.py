"""/v1/verifications: anybody may ask; no key is needed, the file is never kept, the answer for a while."""

from __future__ import annotations

from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api import forms, shapes
from webapp.api.base import Resource
from webapp.api.parsing import SafeJSONParser, read
from webapp.api.schema import documented
from webapp.jobs.errors import not_found
from webapp.verify import kept
from webapp.verify.errors import QueryError
from webapp.verify.models import Verification
from webapp.verify.throttles import Files, Polls

LOOK_AGAIN_SECONDS = 2


class Verifications(Resource):
    """What can be said about a file."""

    authentication_classes = []
    permission_classes = [AllowAny]
    parser_classes = [MultiPartParser, SafeJSONParser]
    throttle_classes = [Files]

    @documented(
        "create_verification",
        "Check a photo or a video, sent or named by its address",
        {200: shapes.VerificationOut, 202: shapes.VerificationOut},
        *(400, 406, 413, 415, 422, 429, 503),
        request={"multipart/form-data": forms.VerificationCreate, "application/json": forms.VerificationOfAddress},
        description=(
            "Up to 20 MB are answered at once (200). For more the answer is 202, with `Location`: ask there again "
            "until `state` is no longer `running`. An address must be https and lead to the public internet; at most "
            "200 MB are fetched."
        ),
        auth=[],
    )
    def post(self, request: Request) -> Response:
        """A file as multipart/form-data, or {"url": …} as JSON."""
        if request.content_type.startswith("application/json"):
            asked = read(forms.VerificationOfAddress, request.data)
            row = kept.receive_url(asked["url"], fetch_manifest=asked["fetch_manifest"])
        else:
            asked = read(forms.VerificationCreate, request.data)
            file = asked["file"]
            if not file.size:
                raise QueryError("verification_input", "The file is empty; nothing was looked at. Send it again.", 422)
            row = kept.receive_upload(file, fetch_manifest=asked["fetch_manifest"])
        return _answer(row, 200 if row.state == Verification.State.DONE else 202)


class VerificationDetail(Resource):
    """An answer that is still kept, or not made yet."""

    authentication_classes = []
    permission_classes = [AllowAny]
    throttle_classes = [Polls]

    @documented(
        "get_verification",
        "Read an answer again, with the permission as it is now",
        {200: shapes.VerificationOut},
        *(404, 406, 429),
        auth=[],
    )
    def get(self, request: Request, verification_id: str) -> Response:
        """The answer, or how far it is."""
        row = kept.find(verification_id)
        if row is None:
            raise not_found("verification")
        return _answer(row, 200)


def _answer(row: Verification, status: int) -> Response:
    response = Response(kept.body(row), status=status)
    if row.current_state == Verification.State.RUNNING:
        response["Retry-After"] = str(LOOK_AGAIN_SECONDS)
    if status == 202:
        response["Location"] = f"/v1/verifications/{row.pk}"
    return response
