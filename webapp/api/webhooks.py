"""Webhook endpoints: where a partner is told what happens, with the log of what was told."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api.base import Resource, once, organisation
from webapp.api.pagination import page
from webapp.api.parsing import Strict, read
from webapp.api.schema import IDEMPOTENCY_KEY, PAGE, documented
from webapp.api.shapes import ListOut, kind_of
from webapp.jobs.errors import not_found
from webapp.webhooks import services as webhooks
from webapp.webhooks import signing
from webapp.webhooks.events import TYPES
from webapp.webhooks.models import WebhookDelivery, WebhookEndpoint


class WebhookEndpointCreate(Strict):
    """Where to tell, and what."""

    url = serializers.CharField(max_length=webhooks.LONGEST_URL, help_text="https, a public address.")
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=TYPES), default=list, max_length=len(TYPES), help_text="None: all."
    )
    description = serializers.CharField(max_length=webhooks.LONGEST_DESCRIPTION, allow_blank=True, default="")


class WebhookEndpointChange(Strict):
    """What is left out stays as it is."""

    url = serializers.CharField(max_length=webhooks.LONGEST_URL, required=False)
    events = serializers.ListField(child=serializers.ChoiceField(choices=TYPES), required=False, max_length=len(TYPES))
    description = serializers.CharField(max_length=webhooks.LONGEST_DESCRIPTION, allow_blank=True, required=False)
    enabled = serializers.BooleanField(required=False)


class WebhookEndpointOut(serializers.Serializer):
    """An endpoint. `public_key` is of the Ed25519 signatures (`v1a`)."""

    id = serializers.CharField()
    object = kind_of("webhook_endpoint")
    url = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    events = serializers.ListField(child=serializers.CharField())
    enabled = serializers.BooleanField()
    disabled_at = serializers.DateTimeField(allow_null=True)
    disabled_reason = serializers.CharField(allow_null=True, help_text="by_account, or answered_410.")
    public_key = serializers.CharField()
    previous_secret_until = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class WebhookSecretOut(WebhookEndpointOut):
    """With the secret of the HMAC signatures (`v1`), which is shown this one time."""

    secret = serializers.CharField()


class WebhookEndpointList(ListOut):
    data = WebhookEndpointOut(many=True)  # type: ignore[assignment]


class WebhookTryOut(serializers.Serializer):
    """`error` is a stable code where there was no answer, such as url_timeout."""

    at = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(allow_blank=True)
    milliseconds = serializers.IntegerField()


class WebhookDeliveryOut(serializers.Serializer):
    """One event on its way to the endpoint; `event` is the `webhook-id` of its messages."""

    id = serializers.CharField()
    object = kind_of("webhook_delivery")
    event = serializers.CharField()
    type = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]
    state = serializers.ChoiceField(choices=WebhookDelivery.State.values)
    tries = WebhookTryOut(many=True)
    next_at = serializers.DateTimeField(allow_null=True)
    delivered_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class WebhookDeliveryList(ListOut):
    data = WebhookDeliveryOut(many=True)  # type: ignore[assignment]


def endpoint_state(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """An endpoint as the API shows it."""
    return {
        "id": endpoint.pk,
        "object": "webhook_endpoint",
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events,
        "enabled": endpoint.disabled_at is None,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason or None,
        "public_key": signing.public_key(endpoint.unseal("signing_key")),
        "previous_secret_until": endpoint.previous_until,
        "created_at": endpoint.created_at,
    }


def delivery_state(delivery: WebhookDelivery) -> dict[str, Any]:
    """A delivery as the API shows it."""
    return {
        "id": delivery.pk,
        "object": "webhook_delivery",
        "event": delivery.event_id,
        "type": delivery.event.type,
        "data": delivery.event.data,
        "state": delivery.state,
        "tries": delivery.tries,
        "next_at": delivery.next_at,
        "delivered_at": delivery.delivered_at,
        "created_at": delivery.created_at,
    }


def own_endpoint(request: Request, endpoint_id: str) -> WebhookEndpoint:
    """An endpoint of the caller's organisation. Raises JobsError not_found (404)."""
    plausible = endpoint_id.isascii() and endpoint_id.isprintable() and len(endpoint_id) <= 32
    rows = WebhookEndpoint.objects.of(organisation(request))
    found = rows.filter(pk=endpoint_id).first() if plausible else None
    if found is None:
        raise not_found("webhook endpoint")
    return found


class WebhookEndpoints(Resource):
    """The organisation's endpoints."""

    @documented(
        "list_webhook_endpoints", "List webhook endpoints", {200: WebhookEndpointList}, 400, 401, 406, parameters=PAGE
    )
    def get(self, request: Request) -> Response:
        return page(request, WebhookEndpoint.objects.of(organisation(request)), endpoint_state)

    @documented(
        "create_webhook_endpoint",
        "Be told what happens; the answer holds the secret, this one time",
        {201: WebhookSecretOut},
        *(400, 401, 406, 409, 415, 422),
        request=WebhookEndpointCreate,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request) -> Response:
        body = read(WebhookEndpointCreate, request.data)
        endpoint, secret = webhooks.create_endpoint(
            organisation(request), url=body["url"], wanted=body["events"], description=body["description"]
        )
        return Response({**endpoint_state(endpoint), "secret": secret}, status=201)


class WebhookEndpointDetail(Resource):
    """One endpoint."""

    @documented("get_webhook_endpoint", "See a webhook endpoint", {200: WebhookEndpointOut}, 401, 404, 406)
    def get(self, request: Request, endpoint_id: str) -> Response:
        return Response(endpoint_state(own_endpoint(request, endpoint_id)))

    @documented(
        "change_webhook_endpoint",
        "Change, disable or enable a webhook endpoint",
        {200: WebhookEndpointOut},
        *(400, 401, 404, 406, 415, 422),
        request=WebhookEndpointChange,
    )
    def patch(self, request: Request, endpoint_id: str) -> Response:
        body = read(WebhookEndpointChange, request.data)
        endpoint = webhooks.change_endpoint(
            own_endpoint(request, endpoint_id),
            url=body.get("url"),
            wanted=body.get("events"),
            description=body.get("description"),
            enabled=body.get("enabled"),
        )
        return Response(endpoint_state(endpoint))

    @documented("delete_webhook_endpoint", "Delete a webhook endpoint and its log", {204: None}, 401, 404, 406)
    def delete(self, request: Request, endpoint_id: str) -> Response:
        webhooks.delete_endpoint(own_endpoint(request, endpoint_id))
        return Response(status=204)


class WebhookSecret(Resource):
    """A new secret."""

    @documented(
        "rotate_webhook_secret",
        "Renew the secret; the old one signs as well for 24 hours",
        {200: WebhookSecretOut},
        *(401, 404, 406, 409),
        request=None,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request, endpoint_id: str) -> Response:
        endpoint = own_endpoint(request, endpoint_id)
        secret = webhooks.rotate_secret(endpoint)
        return Response({**endpoint_state(endpoint), "secret": secret})


class WebhookTest(Resource):
    """A message about nothing."""

    @documented(
        "test_webhook_endpoint",
        "Send a test event (test.ping)",
        {202: WebhookEndpointOut},
        *(401, 404, 406, 409),
        request=None,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request, endpoint_id: str) -> Response:
        endpoint = own_endpoint(request, endpoint_id)
        webhooks.send_test(endpoint)
        return Response(endpoint_state(endpoint), status=202)


class WebhookDeliveries(Resource):
    """What was told, and how it was taken; kept for 30 days."""

    @documented(
        "list_webhook_deliveries",
        "See the log of an endpoint",
        {200: WebhookDeliveryList},
        *(400, 401, 404, 406),
        parameters=PAGE,
    )
    def get(self, request: Request, endpoint_id: str) -> Response:
        rows = WebhookDelivery.objects.filter(endpoint=own_endpoint(request, endpoint_id)).select_related("event")
        return page(request, rows, delivery_state)


class WebhookReplay(Resource):
    """The same event once more."""

    @documented(
        "replay_webhook_delivery",
        "Send an event of the log again",
        {202: WebhookDeliveryOut},
        *(401, 404, 406, 409),
        request=None,
        parameters=[IDEMPOTENCY_KEY],
    )
    @once
    def post(self, request: Request, endpoint_id: str, delivery_id: str) -> Response:
        endpoint = own_endpoint(request, endpoint_id)
        plausible = delivery_id.isascii() and delivery_id.isprintable() and len(delivery_id) <= 32
        rows = WebhookDelivery.objects.filter(endpoint=endpoint).select_related("event", "endpoint")
        found = rows.filter(pk=delivery_id).first() if plausible else None
        if found is None:
            raise not_found("webhook delivery")
        return Response(delivery_state(webhooks.replay(found)), status=202)
