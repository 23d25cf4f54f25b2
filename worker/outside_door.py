"""The way out of this house for the gate's services: through the client that reaches public https addresses only."""

from __future__ import annotations

from django.conf import settings

from webapp import net
from worker.gate.packs.outside import Account, Outside, OutsideError, Reply, Request
from worker.gate.packs.outside_services import PROVIDERS

ANSWER_BYTES = 4 << 20  # a timeline of an hour of film has room in it


def outside() -> Outside:
    """The operator's accounts with services, and how they are reached."""
    accounts = {
        name: Account(settings.GATE_SERVICES[name]["url"] or url, settings.GATE_SERVICES[name]["key"])
        for name, url in PROVIDERS.items()
    }
    return Outside(send, accounts, seconds=float(settings.GATE_SERVICE_SECONDS))


def policy(seconds: float) -> net.Policy:
    """https, public addresses, no redirects."""
    return net.Policy(max_bytes=ANSWER_BYTES, max_redirects=0, step_seconds=seconds, total_seconds=seconds)


def send(request: Request, seconds: float) -> Reply:
    """See `worker.gate.packs.outside.Send`."""
    try:
        found = net.exchange(
            request.verb,
            request.url,
            net.Body(request.before, request.file, request.after),
            request.headers,
            policy(seconds),
        )
    except net.FetchError as error:
        raise OutsideError(_CODES.get(error.code, "service_unreachable"), f"{error.code}: {error.detail}") from error
    except OSError as error:
        raise OutsideError("service_unreachable", type(error).__name__) from error
    return Reply(found.status, found.headers, found.body)


_CODES = {"url_timeout": "timeout", "url_too_large": "service_answer"}
