"""How often one network address may ask; the slots bound the load of all together."""

from __future__ import annotations

import math

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView


class PerAddress(SimpleRateThrottle):
    """So many questions per minute and network address; behind a proxy, the one the proxy names (NUM_PROXIES)."""

    def get_cache_key(self, request: Request, view: APIView) -> str:
        """The address."""
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class Files(PerAddress):
    """Files to be looked at."""

    scope = "verifications"
    rate = "30/min"


def seconds_to_wait(request: HttpRequest) -> int:
    """For the page, which counts together with the API: 0 if this address may send a file now, else seconds."""
    throttle = Files()
    if throttle.allow_request(Request(request), APIView()):
        return 0
    return max(1, math.ceil(throttle.wait() or 1))


class Polls(PerAddress):
    """Looks for an answer."""

    scope = "verification_polls"
    rate = "240/min"


class Lookups(PerAddress):
    """Questions that are answered from an index."""

    scope = "resolution"
    rate = "240/min"
