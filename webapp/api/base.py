"""What all resources share: request ids, parsers, one-time POSTs, and rows of the caller's own organisation only."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from consent.models import Attestation, Consent
from webapp.accounts.auth import Partner
from webapp.accounts.models import Organisation
from webapp.api import idempotency
from webapp.api.errors import REQUEST_ID_HEADER, new_request_id
from webapp.api.parsing import SafeJSONParser
from webapp.jobs.errors import not_found
from webapp.jobs.models import Asset, Job, Output

Handler = Callable[..., Response]


class Resource(APIView):
    """A resource of the API."""

    parser_classes = [SafeJSONParser]

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Give every request an id before anything can go wrong with it."""
        found = super().initialize_request(request, *args, **kwargs)
        found.request_id = new_request_id()  # type: ignore[attr-defined]
        return found

    def finalize_response(  # type: ignore[override]  # media is streamed by a Django response
        self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """Say the id; answers about people's media are not for caches."""
        final = super().finalize_response(request, cast(Any, response), *args, **kwargs)
        final[REQUEST_ID_HEADER] = getattr(request, "request_id", "")
        final.headers.setdefault("Cache-Control", "no-store")
        return final


def once(handler: Handler) -> Handler:
    """A POST that honours `Idempotency-Key` (see `idempotency`)."""

    @wraps(handler)
    def run(view: Resource, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = idempotency.key_of(request)
        if not key:
            return handler(view, request, *args, **kwargs)
        claim = idempotency.begin(request, key)
        if isinstance(claim, Response):
            return claim
        try:
            try:
                response = handler(view, request, *args, **kwargs)
            except Exception as error:
                response = view.handle_exception(error)
            idempotency.finish(claim, response, response.data)
        except BaseException:
            claim.delete()
            raise
        return response

    return run


def partner(request: Request) -> Partner:
    """Who calls."""
    return cast(Partner, request.user)


def organisation(request: Request) -> Organisation:
    """The organisation the key belongs to."""
    return partner(request).organisation


def own_asset(request: Request, asset_id: str) -> Asset:
    """An asset of the caller's organisation. Raises JobsError not_found (404)."""
    return cast(Asset, _own(Asset.objects, request, asset_id, "asset"))


def own_job(request: Request, job_id: str) -> Job:
    """A job of the caller's organisation. Raises JobsError not_found (404)."""
    return cast(Job, _own(Job.objects, request, job_id, "job"))


def own_output(request: Request, output_id: str) -> Output:
    """An output of the caller's organisation. Raises JobsError not_found (404)."""
    return cast(Output, _own(Output.objects, request, output_id, "output"))


def own_consent(request: Request, consent_id: str) -> Consent:
    """A consent asked for by the caller's organisation. Raises JobsError not_found (404)."""
    found = None
    if _plausible(consent_id):
        found = Consent.objects.filter(pk=consent_id, organisation_id=organisation(request).pk).first()
    if found is None:
        raise not_found("consent")
    return found


def own_attestation(request: Request, attestation_id: str) -> Attestation:
    """An attestation made for the caller's organisation. Raises JobsError not_found (404)."""
    found = None
    if _plausible(attestation_id):
        found = Attestation.objects.filter(pk=attestation_id, organisation_id=organisation(request).pk).first()
    if found is None:
        raise not_found("attestation")
    return found


def _own(rows: Any, request: Request, pk: str, what: str) -> Any:
    found = rows.of(organisation(request)).filter(pk=pk).first() if _plausible(pk) else None
    if found is None:
        raise not_found(what)
    return found


def _plausible(pk: str) -> bool:
    """Could this be an id at all? (PostgreSQL will not take a NUL byte in a text.)"""
    return pk.isascii() and pk.isprintable() and len(pk) <= 32
