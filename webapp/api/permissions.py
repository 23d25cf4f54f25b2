"""Consent requests and attestations. Views translate; `consent.services` decides and writes."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from consent import services as consents
from consent.models import Attestation, Consent
from webapp.api import forms, shapes
from webapp.api.base import (
    Resource,
    once,
    organisation,
    own_asset,
    own_consent,
    partner,
)
from webapp.api.pagination import page
from webapp.api.parsing import read
from webapp.api.schema import IDEMPOTENCY_KEY, PAGE, documented
from webapp.jobs import services as jobs
from webapp.jobs.errors import JobsError
from webapp.profile import is_live


def consent_state(consent: Consent) -> dict[str, Any]:
    """A consent as the API shows it: nothing of the person."""
    targets = [{"asset": each["asset_id"], "face": each["face"]} for each in consent.targets]
    outputs_left, seconds_left = consents.left_of(consent)
    return {
        "id": consent.pk,
        "object": "consent",
        "state": consent.state,
        "role": consent.role,
        "livemode": consent.livemode,
        "assurance_asked": consent.assurance_asked,
        "assurance": consent.assurance if consent.given_at else None,
        "check": consents.check_state(consent),
        "purposes": consent.purposes,
        "photos": [{"asset": photo["asset_id"], "face": photo["face"]} for photo in consent.photos],
        "target": targets[0] if targets else None,
        "targets": targets,
        "partners": consent.partners,
        "territories": consent.territories,
        "relationship": consent.relationship,
        "political": not consent.no_political,
        "max_outputs": consent.max_outputs,
        "outputs_left": outputs_left,
        "max_seconds": consent.max_seconds,
        "max_total_seconds": consent.max_total_seconds,
        "seconds_left": seconds_left,
        "valid_until": consent.valid_until,
        "link_expires_at": consent.link_expires_at,
        "created_at": consent.created_at,
        "given_at": consent.given_at,
        "ended_at": consent.ended_at,
    }


class ConsentRequests(Resource):
    """Questions to depicted people."""

    @documented(
        "create_consent_request",
        "Ask a depicted person; the answer holds their link, this one time",
        {201: shapes.ConsentRequestOut},
        *(400, 401, 404, 406, 409, 415, 422),
        request=forms.ConsentRequestCreate,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request) -> Response:
        body = read(forms.ConsentRequestCreate, request.data)
        targets = []
        for ref in [*([body["target"]] if body.get("target") else []), *(body.get("targets") or [])]:
            asset = own_asset(request, ref["asset"])
            targets.append(consents.TargetRef(asset.pk, asset.sha256, jobs.chosen_face(asset, ref["face"])))
        photos = []
        for ref in body.get("photos") or []:
            asset = own_asset(request, ref["asset"])
            photos.append(consents.PhotoRef(asset.pk, asset.sha256, jobs.chosen_face(asset, ref["face"])))
        owner = organisation(request)
        consent, token = jobs.request_consent(
            organisation_id=owner.pk,
            organisation_name=owner.name,
            requested_by=body.get("requested_by") or owner.name,
            role=body["role"],
            name=body["name"],
            contact=body["contact"],
            locale=body["locale"],
            purposes=list(dict.fromkeys(body["purposes"])),
            photos=photos,
            targets=targets,
            max_outputs=body["max_outputs"],
            days=body["days"],
            assurance=body.get("assurance", ""),
            livemode=is_live(),
            note=body["note"],
            scope=consents.Scope(
                partners=body["partners"],
                territories=body["territories"],
                intended_use=body["intended_use"],
                relationship=body["relationship"],
                political=body["political"],
                max_seconds=body["max_seconds"],
                max_total_seconds=body["max_total_seconds"],
            ),
        )
        return Response({**consent_state(consent), "link": consents.link(token)}, status=201)


class Consents(Resource):
    """The organisation's questions and what became of them."""

    @documented(
        "list_consents",
        "List consents",
        {200: shapes.ConsentList},
        *(400, 401, 406),
        parameters=[*PAGE, OpenApiParameter("state", OpenApiTypes.STR, enum=Consent.State.values)],
    )
    def get(self, request: Request) -> Response:
        rows = Consent.objects.filter(organisation_id=organisation(request).pk)
        if state := request.query_params.get("state"):
            if state not in Consent.State.values:
                raise JobsError(
                    "state_unknown",
                    f"There is no consent state of that name. Use {', '.join(Consent.State.values)}.",
                    status=400,
                )
            rows = rows.filter(state=state)
        return page(request, rows, consent_state)


class ConsentDetail(Resource):
    """One consent."""

    @documented("get_consent", "See whether permission is given", {200: shapes.ConsentOut}, 401, 404, 406)
    def get(self, request: Request, consent_id: str) -> Response:
        return Response(consent_state(own_consent(request, consent_id)))


def attestation_state(attestation: Attestation) -> dict[str, Any]:
    """An attestation as the API shows it."""
    return {
        "id": attestation.pk,
        "object": "attestation",
        "kind": attestation.kind,
        "basis": attestation.basis or None,
        "text_version": attestation.text_version,
        "text_sha256": attestation.text_sha256,
        "created_at": attestation.at,
    }


class AttestationText(Resource):
    """What a declaration says, to be shown before it is made."""

    @documented(
        "get_attestation_text",
        "Read the text and boxes of a declaration",
        {200: shapes.AttestationTextOut},
        *(401, 404, 406),
        parameters=[
            OpenApiParameter("kind", OpenApiTypes.STR, OpenApiParameter.PATH, enum=["declaration", "target_rights"]),
            OpenApiParameter("locale", OpenApiTypes.STR, enum=list(shapes.LOCALES)),
        ],
    )
    def get(self, request: Request, kind: str) -> Response:
        locale = request.query_params.get("locale", "en")
        texts = {"declaration": consents.declaration_text, "target_rights": consents.target_rights_text}
        if kind not in texts or locale not in shapes.LOCALES:
            raise JobsError("not_found", "There is no such text. Ask for declaration or target_rights.", status=404)
        text = texts[kind](locale)
        return Response(
            {
                "object": "attestation_text",
                "kind": kind,
                "version": text.version,
                "sha256": text.sha256,
                "locale": locale,
                "text": text.text,
                "boxes": [{"name": name, "label": label} for name, label in text.boxes],
            }
        )


class Attestations(Resource):
    """Declarations and statements of rights."""

    @documented(
        "create_attestation",
        "Declare, or attest rights in the target",
        {201: shapes.AttestationOut},
        *(400, 401, 404, 406, 409, 415, 422),
        request=forms.AttestationCreate,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request) -> Response:
        body = read(forms.AttestationCreate, request.data)
        owner, made_by = organisation(request).pk, partner(request).username
        if body["kind"] == "declaration":
            attestation = consents.attest_declaration(
                organisation_id=owner, made_by=made_by, ticks=body["ticks"], locale=body["locale"]
            )
            return Response(attestation_state(attestation), status=201)
        missing = [name for name in ("basis", "statement", "target") if not body.get(name)]
        if missing:
            raise JobsError(
                "attestation_incomplete",
                f"An attestation of rights needs {', '.join(missing)} as well; nothing was recorded. Add it.",
            )
        attestation = consents.attest_target_rights(
            organisation_id=owner,
            made_by=made_by,
            basis=body["basis"],
            statement=body["statement"],
            ticks=body["ticks"],
            target_sha256=own_asset(request, body["target"]).sha256,
            locale=body["locale"],
        )
        return Response(attestation_state(attestation), status=201)
