"""The C2PA Soft Binding Resolution API 1.0.0 (C2PA 2.2): five public routes below /c2pa/v1/.

Answers hold nothing about people: manifests as they were published, and their ids. They may be cached by anybody, and
asked for from any web page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils.cache import patch_cache_control
from django.utils.http import parse_etags
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from watermark.credentials import MARK_ALGORITHM
from webapp.api.base import Resource
from webapp.api.parsing import SafeJSONParser
from webapp.net import MEDIA_BYTES
from webapp.verify import lookup, services
from webapp.verify.errors import QueryError
from webapp.verify.lookup import Match
from webapp.verify.slots import slot
from webapp.verify.throttles import Files, Lookups
from worker.media.errors import MediaError

DEFAULT_RESULTS = 10
MATCH_SECONDS = 300  # an output published meanwhile is found after this at the latest
MANIFEST_SECONDS = 86400  # a manifest never changes
ASSET_KINDS = ("image", "audio", "video", "application", "model", "text")
CHUNK = 1 << 20


class AnyAccept(BaseContentNegotiation):
    """Each route has one representation; what a client would rather have does not change it."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """The parser of the route."""
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        """The representation of the route."""
        return renderers[0], renderers[0].media_type


class Route(Resource):
    """What the five routes share."""

    authentication_classes = []
    permission_classes = [AllowAny]
    content_negotiation_class = AnyAccept
    throttle_classes = [Lookups]
    schema = None  # its own OpenAPI document is C2PA's

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Open to web pages of any origin: there are no credentials to protect."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final["Access-Control-Allow-Origin"] = "*"
        final["Access-Control-Expose-Headers"] = "ETag, Link, Retry-After, X-Request-Id"
        return final

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """The pre-flight question of a browser."""
        headers = {
            "Access-Control-Allow-Methods": ", ".join(self.allowed_methods),
            "Access-Control-Allow-Headers": "Content-Type, If-None-Match",
            "Access-Control-Max-Age": "86400",
        }
        return Response(status=204, headers=headers)


class ByBinding(Route):
    """/matches/byBinding"""

    parser_classes = [SafeJSONParser]

    def get(self, request: Request) -> HttpResponse:
        """Manifests bound by a value small enough for an address."""
        if len(request.query_params.get("value", "")) > lookup.LONGEST_VALUE:
            raise QueryError(
                "query_too_long", f"The value has more than {lookup.LONGEST_VALUE} characters. Send it by POST.", 414
            )
        return _cached(request, _result(self._find(request, request.query_params)), MATCH_SECONDS)

    def post(self, request: Request) -> Response:
        """The same with a value of any length."""
        if not isinstance(request.data, Mapping):
            raise QueryError("query_invalid", "The body must be a JSON object with `alg` and `value`.")
        return Response(_result(self._find(request, request.data)))

    def _find(self, request: Request, query: Mapping[str, Any]) -> list[Match]:
        alg, value = query.get("alg"), query.get("value")
        if not isinstance(alg, str) or not isinstance(value, str) or not alg or not value:
            raise QueryError("query_invalid", "Both `alg` and `value` are needed, as text.")
        limit = _limit(request)
        return lookup.by_binding(lookup.decode_binding(alg, value), limit)


class ByContent(Route):
    """/matches/byContent"""

    throttle_classes = [Files]

    def post(self, request: Request) -> Response:
        """Manifests of what the asset in the body shows."""
        limit = _limit(request)
        if request.content_type.split("/", 1)[0].strip().lower() not in (*ASSET_KINDS, ""):
            raise _not_an_asset()
        alg, hint = request.query_params.get("alg", ""), _hint(request)
        with slot(), services.place_for_file() as path:
            _receive(request, path)
            try:
                return Response(_result(lookup.by_content(path, limit, alg=alg, hint=hint)))
            except MediaError as error:
                raise _not_an_asset() from error


class Manifest(Route):
    """/manifests/{manifestId}"""

    def get(self, request: Request, manifest_id: str) -> HttpResponse:
        """The manifest store, or the active manifest alone, as application/c2pa."""
        stored = lookup.manifest(manifest_id, active_only=_flag(request, "returnActiveManifest"))
        response = _cached(request, stored.content, MANIFEST_SECONDS)
        response["Link"] = f'<{settings.PUBLIC_URL}/verify/o/{stored.output_id}>; rel="describedby"'
        return response


class SupportedAlgorithms(Route):
    """/services/supportedAlgorithms"""

    def get(self, request: Request) -> HttpResponse:
        """What can be asked for."""
        known = {"watermarks": [{"alg": MARK_ALGORITHM}], "fingerprints": [{"alg": lookup.FINGERPRINT_ALGORITHM}]}
        return _cached(request, known, MANIFEST_SECONDS)


def _result(matches: list[Match]) -> dict[str, Any]:
    """`c2pa.softBindingQueryResult`; no endpoint: the manifest is here."""
    return {"matches": [{"manifestId": each.manifest_id, "similarityScore": each.score} for each in matches]}


def _cached(request: Request, content: bytes | dict[str, Any], seconds: int) -> HttpResponse:
    """An answer with its entity tag, or 304 to who has it already."""
    response: HttpResponse
    if isinstance(content, bytes):
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        response = HttpResponse(content, content_type="application/c2pa")
    else:
        tag = f'"{hashlib.sha256(repr(content).encode()).hexdigest()[:32]}"'
        response = Response(content)
    if tag in parse_etags(request.headers.get("If-None-Match", "")):
        response = HttpResponse(status=304)
    response["ETag"] = tag
    patch_cache_control(response, public=True, max_age=seconds)
    return response


def _limit(request: Request) -> int:
    text = request.query_params.get("maxResults")
    if text is None:
        return DEFAULT_RESULTS
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
        raise QueryError("query_invalid", "maxResults must be a whole number from 1 on.")
    return int(text)


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false"):
        raise QueryError("query_invalid", f"{name} must be true or false.")
    return text == "true"


def _hint(request: Request) -> bytes | None:
    """The mark id hinted at; None for a hint of another algorithm, which is no help here, or for none."""
    alg, value = request.query_params.get("hintAlg", ""), request.query_params.get("hintValue", "")
    if alg != MARK_ALGORITHM or not value:
        return None
    return lookup.decode_binding(alg, value)


def _receive(request: Request, path: Path) -> None:
    size = 0
    with path.open("xb") as file:
        while piece := request._request.read(CHUNK):  # not `request.stream`: it takes a body in chunks for empty
            size += len(piece)
            if size > MEDIA_BYTES:
                raise QueryError("too_large", f"At most {MEDIA_BYTES >> 20} MiB are accepted here.", 413)
            file.write(piece)


def _not_an_asset() -> QueryError:
    return QueryError(
        "asset_type_invalid",
        "This is not a photo or a video that can be matched here; it was not kept. Send the bytes of a JPEG, PNG, "
        "WebP, AVIF or HEIC photo, or of an MP4, MOV, MKV or WebM video, as the body.",
        415,
    )
