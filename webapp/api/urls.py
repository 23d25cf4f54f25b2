"""Addresses below /v1/."""

from __future__ import annotations

from typing import ClassVar

from django.http import HttpRequest, HttpResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny

from webapp.api import appeals, permissions, views, webhooks
from webapp.api.errors import problem
from webapp.api.verifications import VerificationDetail, Verifications

app_name = "api"


class Schema(SpectacularJSONAPIView):
    """The OpenAPI document; public, it holds no data."""

    authentication_classes: ClassVar[list[type[BaseAuthentication]]] = []
    permission_classes = [AllowAny]


@csrf_exempt
def unknown(request: HttpRequest, rest: str = "") -> HttpResponse:
    """An address that the API does not have."""
    return problem("not_found", "The API has no such address; nothing was changed. See /v1/schema.", status=404)


urlpatterns = [
    path("assets", views.Assets.as_view(), name="assets"),
    path("assets/<str:asset_id>", views.AssetDetail.as_view(), name="asset"),
    path("assets/<str:asset_id>/appeal", appeals.AssetAppeal.as_view(), name="asset_appeal"),
    path("consent_requests", permissions.ConsentRequests.as_view(), name="consent_requests"),
    path("consents", permissions.Consents.as_view(), name="consents"),
    path("consents/<str:consent_id>", permissions.ConsentDetail.as_view(), name="consent"),
    path("attestation_texts/<str:kind>", permissions.AttestationText.as_view(), name="attestation_text"),
    path("attestations", permissions.Attestations.as_view(), name="attestations"),
    path("jobs", views.Jobs.as_view(), name="jobs"),
    path("jobs/<str:job_id>", views.JobDetail.as_view(), name="job"),
    path("jobs/<str:job_id>/cancel", views.JobCancel.as_view(), name="job_cancel"),
    path("jobs/<str:job_id>/appeal", appeals.JobAppeal.as_view(), name="job_appeal"),
    path("outputs/<str:output_id>", views.OutputDetail.as_view(), name="output"),
    path("outputs/<str:output_id>/content", views.OutputContent.as_view(), name="output_content"),
    path("outputs/<str:output_id>/manifest", views.OutputManifest.as_view(), name="output_manifest"),
    path("outputs/<str:output_id>/deletion", views.OutputDeletion.as_view(), name="output_deletion"),
    path("webhook_endpoints", webhooks.WebhookEndpoints.as_view(), name="webhook_endpoints"),
    path("webhook_endpoints/<str:endpoint_id>", webhooks.WebhookEndpointDetail.as_view(), name="webhook_endpoint"),
    path("webhook_endpoints/<str:endpoint_id>/secret", webhooks.WebhookSecret.as_view(), name="webhook_secret"),
    path("webhook_endpoints/<str:endpoint_id>/test", webhooks.WebhookTest.as_view(), name="webhook_test"),
    path(
        "webhook_endpoints/<str:endpoint_id>/deliveries",
        webhooks.WebhookDeliveries.as_view(),
        name="webhook_deliveries",
    ),
    path(
        "webhook_endpoints/<str:endpoint_id>/deliveries/<str:delivery_id>/replay",
        webhooks.WebhookReplay.as_view(),
        name="webhook_replay",
    ),
    path("verifications", Verifications.as_view(), name="verifications"),
    path("verifications/<str:verification_id>", VerificationDetail.as_view(), name="verification"),
    path("schema", Schema.as_view(), name="schema"),
    re_path(r"^(?P<rest>.*)$", unknown),
]
