"""Partners are told by Standard Webhooks: signed, thin, tried again, to public https addresses only.

The receiver is a real TLS server on loopback, reached by a policy that a test passes by hand.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.utils import timezone

from consent import services as consents
from tests.webapp import cast
from tests.webapp.core.test_net import NAME, Server, head, issue
from webapp.jobs import services as jobs
from webapp.jobs import upkeep
from webapp.jobs.errors import JobsError
from webapp.net import Policy
from webapp.outbox import services as outbox
from webapp.outbox.models import OutboxMessage
from webapp.webhooks import delivery, events, services, signing
from webapp.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookEvent

pytestmark = pytest.mark.django_db

STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver(Server):
    """A partner's server: `bodies` are what it was sent, `status` what it answers."""

    status = "200 OK"
    more: tuple[str, ...] = ()

    def __init__(self, chain: Path, key: Path) -> None:
        super().__init__(chain, key)
        self.bodies: list[bytes] = []
        self.answer = self._take

    def _take(self, connected: Any, path: str) -> None:
        request = self.seen[-1]
        headers, _, body = request.partition(b"\r\n\r\n")
        length = int(headers.lower().partition(b"content-length:")[2].split()[0])
        while len(body) < length:
            body += connected.recv(4096)
        self.bodies.append(body)
        connected.sendall(head(2, *self.more, status=self.status) + b"ok")

    @property
    def headers(self) -> dict[str, str]:
        """Of the last message."""
        lines = self.seen[-1].partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}/hooks"


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver(*issue(tmp_path, NAME))
    rules = Policy(
        max_bytes=delivery.ANSWER_BYTES,
        ports=frozenset({made.port}),
        max_redirects=0,
        permits=lambda address: address.is_loopback,
        resolve=lambda host, port: ["127.0.0.1"],
        tls=made.trust,
        step_seconds=3.0,
        total_seconds=3.0,
    )
    monkeypatch.setattr(delivery, "policy", lambda: rules)
    yield made
    made.close()


def relay() -> int:
    return outbox.relay(topics=[delivery.TOPIC])


def due_now() -> None:
    """As if every pause were over."""
    OutboxMessage.objects.filter(sent_at=None).update(not_before=timezone.now() - timedelta(seconds=1))


def verify(receiver: Receiver, secret: str, public_key: str) -> None:
    """As a receiver does, from the specification."""
    headers, body = receiver.headers, receiver.bodies[-1]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    found = dict(each.split(",", 1) for each in reversed(headers["webhook-signature"].split(" ")))
    expected = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    all_v1 = [each.removeprefix("v1,") for each in headers["webhook-signature"].split(" ") if each.startswith("v1,")]
    assert base64.b64encode(expected).decode() in all_v1
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    key.verify(base64.b64decode(found["v1a"]), signed)


def test_the_signature_is_the_one_of_the_standard() -> None:
    body = b'{"test": 2432232314}'
    found = signing.sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, shared=[STANDARD_SECRET], seed=signing.new_seed()
    )
    assert found.split(" ")[0] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_withdrawal_is_told_with_what_to_delete_and_nothing_of_the_person(
    cleo: cast.Account, receiver: Receiver
) -> None:
    endpoint, secret = services.create_endpoint(cleo.organisation, url=receiver.url)
    output = cast.published(cleo)
    consent = cast.donor(output.job)
    _give(consent)
    relay()
    before = len(receiver.bodies)
    consents.withdraw_consent(consent)
    assert relay() == 2
    told = {json.loads(body)["type"]: json.loads(body) for body in receiver.bodies[before:]}
    assert set(told) == {"consent.withdrawn", "output.hidden"}
    assert told["consent.withdrawn"]["data"] == {
        "object": "consent",
        "id": consent.pk,
        "state": "withdrawn",
        "role": "face_donor",
        "delete_outputs": [output.pk],
    }
    assert told["output.hidden"]["data"]["permission"] == "withdrawn"
    assert all(b"Ada" not in body and len(body) < 20_000 for body in receiver.bodies)
    verify(receiver, secret, signing.public_key(endpoint.unseal("signing_key")))
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"delivered"}


def test_what_is_undone_is_not_told(cleo: cast.Account, receiver: Receiver) -> None:
    services.create_endpoint(cleo.organisation, url=receiver.url)
    consent = cast.donor(cast.published(cleo).job)
    _give(consent)
    WebhookEvent.objects.all().delete()

    def breaks(changed: Any, old: str, new: str) -> None:
        raise RuntimeError("the last effect fails")

    from consent import transitions

    transitions._effects.append(breaks)
    try:
        with pytest.raises(RuntimeError):
            consents.withdraw_consent(consent)
    finally:
        transitions._effects.remove(breaks)
    assert not WebhookEvent.objects.exists()


def test_an_endpoint_hears_of_its_own_organisation_and_of_what_it_wants(
    cleo: cast.Account, dan: cast.Account, receiver: Receiver
) -> None:
    services.create_endpoint(dan.organisation, url=receiver.url)
    services.create_endpoint(cleo.organisation, url=receiver.url, wanted=["job.canceled"])
    job = cast.submitted(cleo)
    jobs.cancel_job(job)
    relay()
    assert [json.loads(body)["type"] for body in receiver.bodies] == ["job.canceled"]
    assert json.loads(receiver.bodies[0])["data"] == {
        "object": "job",
        "id": job.pk,
        "state": "canceled",
        "code": "canceled",
    }


def test_what_is_not_taken_is_tried_ten_times_over_three_days(cleo: cast.Account, receiver: Receiver) -> None:
    endpoint, _ = services.create_endpoint(cleo.organisation, url=receiver.url)
    receiver.status = "503 Service Unavailable"
    services.send_test(endpoint)
    waited = 0.0
    for number in range(10):
        assert relay() == 1
        assert len(receiver.bodies) == number + 1
        message = OutboxMessage.objects.filter(sent_at=None, topic=delivery.TOPIC).first()
        if number < 9:
            assert message is not None
            pause = (message.not_before - timezone.now()).total_seconds()
            assert abs(pause - delivery.PAUSES[number]) <= delivery.PAUSES[number] * delivery.JITTER + 2
            waited += delivery.PAUSES[number]
            due_now()
    assert 70 * 3600 < waited < 80 * 3600
    sent = WebhookDelivery.objects.get()
    assert (sent.state, len(sent.tries), sent.tries[0]["status"]) == ("failed", 10, 503)
    assert len({message["webhook-id"] for message in [receiver.headers]}) == 1
    assert relay() == 0

    receiver.status = "204 No Content"
    again = services.replay(sent)
    assert relay() == 1
    again.refresh_from_db()
    assert again.state == "delivered"
    assert receiver.headers["webhook-id"] == sent.event_id  # the receiver knows it by its id


def test_410_disables_and_a_redirect_is_not_followed(cleo: cast.Account, receiver: Receiver) -> None:
    endpoint, _ = services.create_endpoint(cleo.organisation, url=receiver.url)
    receiver.status, receiver.more = "302 Found", (f"Location: https://{NAME}:{receiver.port}/other",)
    services.send_test(endpoint)
    relay()
    assert len(receiver.bodies) == 1
    assert WebhookDelivery.objects.get().tries[0]["status"] == 302
    receiver.status, receiver.more = "410 Gone", ()
    due_now()
    relay()
    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "answered_410"
    assert WebhookDelivery.objects.get().state == "failed"
    with pytest.raises(JobsError) as error:
        services.send_test(endpoint)
    assert error.value.code == "endpoint_disabled"
    events.tell(cleo.organisation.pk, "job.failed", {})
    assert WebhookDelivery.objects.count() == 1
    assert services.change_endpoint(endpoint, enabled=True).disabled_at is None


def test_during_a_rotation_both_secrets_sign_and_afterwards_the_new_one_alone(
    cleo: cast.Account, receiver: Receiver
) -> None:
    endpoint, old = services.create_endpoint(cleo.organisation, url=receiver.url)
    new = services.rotate_secret(endpoint)
    public = signing.public_key(endpoint.unseal("signing_key"))
    services.send_test(endpoint)
    relay()
    verify(receiver, old, public)
    verify(receiver, new, public)
    WebhookEndpoint.objects.update(previous_until=timezone.now())
    services.send_test(endpoint)
    relay()
    verify(receiver, new, public)
    with pytest.raises(AssertionError):
        verify(receiver, old, public)


def test_no_secret_lies_open_in_the_database(cleo: cast.Account, receiver: Receiver) -> None:
    endpoint, secret = services.create_endpoint(cleo.organisation, url=receiver.url)
    raw = base64.b64decode(secret.removeprefix("whsec_"))
    row = WebhookEndpoint.objects.filter(pk=endpoint.pk).values().get()
    assert all(secret.encode() not in bytes(v) and raw not in bytes(v) for v in row.values() if isinstance(v, bytes))


@pytest.mark.parametrize(
    "url",
    ["http://example.org/h", "https://me@example.org/h", "https://example.org:8443/h", "ftp://x", "", "x" * 600],
)
def test_an_address_that_could_never_be_told_is_refused(cleo: cast.Account, url: str) -> None:
    with pytest.raises(JobsError) as error:
        services.create_endpoint(cleo.organisation, url=url)
    assert error.value.code == "url_invalid"


@pytest.mark.parametrize("url", ["https://127.0.0.1/h", "https://[::1]/h", "https://169.254.169.254/latest"])
def test_an_address_inside_is_never_reached(cleo: cast.Account, url: str) -> None:
    endpoint, _ = services.create_endpoint(cleo.organisation, url=url)
    services.send_test(endpoint)
    relay()
    tried = WebhookDelivery.objects.get().tries[0]
    assert (tried["status"], tried["error"]) == (None, "url_not_public")


def test_the_api_makes_tries_and_replays(cleo: cast.Account, dan: cast.Account, receiver: Receiver) -> None:
    def call(verb: str, path: str, body: Any = None, who: cast.Account = cleo, **headers: str) -> Any:
        do: Callable[..., Any] = getattr(who.browser, verb)
        data = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        return do(f"/v1/webhook_endpoints{path}", **data, headers={**who.api, **headers})

    made = call("post", "", {"url": receiver.url, "events": ["output.hidden"]}, **{"Idempotency-Key": "k1"})
    assert made.status_code == 201, made.content
    body = made.json()
    assert body["secret"].startswith("whsec_")
    assert (
        call("post", "", {"url": receiver.url, "events": ["output.hidden"]}, **{"Idempotency-Key": "k1"}).json() == body
    )
    here = f"/{body['id']}"
    assert "secret" not in call("get", here).json()
    assert call("get", here, who=dan).status_code == 404
    assert call("patch", here, {"description": "ours", "events": []}).json()["description"] == "ours"
    assert call("patch", here, {"evnts": []}).json()["code"] == "invalid_request"
    assert call("post", f"{here}/test").status_code == 202
    assert call("post", f"{here}/secret").json()["secret"] != body["secret"]
    relay()
    log = call("get", f"{here}/deliveries").json()["data"]
    assert [(each["type"], each["state"]) for each in log] == [("test.ping", "delivered")]
    assert call("post", f"{here}/deliveries/{log[0]['id']}/replay").status_code == 202
    assert call("post", f"{here}/deliveries/{log[0]['id']}/replay", who=dan).status_code == 404
    relay()
    assert len(receiver.bodies) == 2
    assert call("get", "").json()["data"][0]["id"] == body["id"]
    assert call("delete", here).status_code == 204
    assert call("get", here).status_code == 404
    assert not WebhookDelivery.objects.exists()


def test_a_partner_confirms_that_its_copies_are_gone(cleo: cast.Account, dan: cast.Account) -> None:
    output = cast.published(cleo)
    path = f"/v1/outputs/{output.pk}/deletion"
    refused = cleo.browser.post(path, headers=cleo.api)
    assert (refused.status_code, refused.json()["code"]) == (409, "permission_in_force")
    _give(cast.replaced(output.job))
    consents.revoke_consent(cast.replaced(output.job), reason="court")
    assert dan.browser.post(path, headers=dan.api).status_code == 404
    confirmed = cleo.browser.post(path, headers=cleo.api).json()
    assert confirmed["permission"] == "revoked"
    assert confirmed["copies_deleted_at"]
    assert cleo.browser.post(path, headers=cleo.api).json() == confirmed
    page = cleo.browser.get(f"/jobs/{output.job_id}/result").content.decode()
    assert "The operator ended the permission on" in page


def _give(consent: Any) -> None:
    consents.give_consent(consent, **cast.whole_answer(consent, "Ada Byron"))


@pytest.mark.django_db(transaction=True)
def test_a_tick_delivers_aside_so_that_a_partner_who_hangs_holds_up_nobody(committed: None, receiver: Receiver) -> None:
    cleo = cast.account("Cleo")
    services.create_endpoint(cleo.organisation, url=receiver.url)
    release = threading.Event()
    take = receiver.answer
    receiver.answer = lambda connected, path: (release.wait(10), take(connected, path))[1]
    for endpoint in WebhookEndpoint.objects.all():
        services.send_test(endpoint)
    began = time.monotonic()
    upkeep.tick()
    assert time.monotonic() - began < 2.0
    assert WebhookDelivery.objects.get().state == "pending"
    assert not outbox.relay_aside()  # one round at a time
    release.set()
    deadline = time.monotonic() + 15
    while WebhookDelivery.objects.get().state == "pending" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert WebhookDelivery.objects.get().state == "delivered"
    while outbox._aside.locked() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not outbox._aside.locked()
