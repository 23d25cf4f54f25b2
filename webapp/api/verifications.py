"""POST /v1/verifications: anybody may ask; no key is needed and nothing is kept."""

from __future__ import annotations

from rest_framework.parsers import MultiPartParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from webapp.api import serializers as shapes
from webapp.api.base import Resource
from webapp.api.parsing import read
from webapp.api.schema import documented
from webapp.verify import services


class PerAddress(SimpleRateThrottle):
    """So many verifications per minute and network address; the slots of `services` bound the load as a whole."""

    scope = "verifications"
    rate = "30/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        """The address; behind a proxy, the one the proxy names (REST framework's NUM_PROXIES)."""
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class Verifications(Resource):
    """What can be said about a file."""

    authentication_classes = []
    permission_classes = [AllowAny]
    parser_classes = [MultiPartParser]
    throttle_classes = [PerAddress]

    @documented(
        "create_verification",
        "Check a photo or a video",
        {200: shapes.VerificationOut},
        *(400, 406, 413, 415, 422, 429, 503),
        request={"multipart/form-data": shapes.VerificationCreate},
        auth=[],
    )
    def post(self, request: Request) -> Response:
        body = read(shapes.VerificationCreate, request.data)
        return Response(services.verdict_body(services.verify_upload(body["file"])))
