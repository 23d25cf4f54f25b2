"""The ledger for everybody: its signed head, proofs and leaves, below /log/. Leaves name nobody, see consent.ledger."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.utils.cache import patch_cache_control
from django.utils.http import parse_etags
from rest_framework.request import Request
from rest_framework.response import Response

from consent import ledger
from consent.ledger import proofs
from consent.ledger.sequencer import tree_size
from webapp.verify.errors import QueryError
from webapp.verify.resolution import Route

FRESH_SECONDS = 1  # a head is followed by the next within seconds
IMMUTABLE_SECONDS = 31_536_000
LARGEST = 1 << 53
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")


class Checkpoint(Route):
    """/log/checkpoint"""

    def get(self, request: Request) -> HttpResponse:
        """The newest signed head, a C2SP signed note."""
        _only(request)
        response = HttpResponse(ledger.checkpoint(), content_type="text/plain; charset=utf-8")
        return _cached(request, response, FRESH_SECONDS)


class LogKey(Route):
    """/log/key"""

    def get(self, request: Request) -> HttpResponse:
        """The public keys, current first, a line each: `name+id+base64`."""
        from consent.ledger import house

        _only(request)
        ledger.public_key()
        text = "".join(f"{each.text}\n" for each in house.verifiers())
        return _cached(request, HttpResponse(text, content_type="text/plain; charset=utf-8"), 60)


class Proof(Route):
    """/log/proof?leaf=HEX or index=N, and size=M"""

    def get(self, request: Request) -> HttpResponse:
        """That a leaf is in the log: by the newest checkpoint, or in the tree of a named size."""
        query = _only(request, "leaf", "index", "size")
        if ("leaf" in query) == ("index" in query):
            raise QueryError("log_query_invalid", "Name one leaf, by `leaf` (its hash) or by `index`.")
        index = proofs.index_of_leaf(_hash(query["leaf"])) if "leaf" in query else _whole(query, "index")
        size = _whole(query, "size") if "size" in query else proofs.covered_size()
        path = proofs.inclusion_path(index, size)
        body = {"index": index, "size": size, "leaf": proofs.leaves(index, index + 1)[0].decode(), "path": _hex(path)}
        return _cached(request, Response(body), IMMUTABLE_SECONDS if "size" in query else FRESH_SECONDS)


class Consistency(Route):
    """/log/consistency?from=N&to=M"""

    def get(self, request: Request) -> HttpResponse:
        """That the tree of `to` leaves begins with the tree of `from` leaves."""
        query = _only(request, "from", "to")
        old, new = _whole(query, "from"), _whole(query, "to")
        body = {"from": old, "to": new, "path": _hex(proofs.consistency_path(old, new))}
        return _cached(request, Response(body), IMMUTABLE_SECONDS)


class Entries(Route):
    """/log/entries?start=N&end=M"""

    def get(self, request: Request) -> HttpResponse:
        """The leaves from `start` up to, not including, `end`; at most 1000, fewer where there are no more."""
        query = _only(request, "start", "end")
        start, end = _whole(query, "start"), _whole(query, "end")
        if end <= start:
            raise QueryError("log_query_invalid", "`end` must be larger than `start`.")
        if start >= tree_size():
            raise ledger.LedgerError(
                "log_size_unknown", "The log has no leaf there yet. See /log/checkpoint for its size.", status=404
            )
        found = proofs.leaves(start, end)
        whole = len(found) == min(end - start, proofs.MOST_LEAVES)
        body = {"start": start, "end": start + len(found), "entries": [leaf.decode() for leaf in found]}
        return _cached(request, Response(body), IMMUTABLE_SECONDS if whole else FRESH_SECONDS)


def _only(request: Request, *names: str) -> Mapping[str, str]:
    """The parameters; a misspelt one would otherwise be answered as if it were not there."""
    unknown = sorted(set(request.query_params) - set(names))
    doubled = sorted(name for name in names if len(request.query_params.getlist(name)) > 1)
    if unknown or doubled:
        known = ", ".join(names) or "none"
        raise QueryError("log_query_invalid", f"The parameters here, each once: {known}.")
    return {name: request.query_params[name] for name in names if name in request.query_params}


def _whole(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not _NUMBER.fullmatch(text) or int(text) >= LARGEST:
        raise QueryError("log_query_invalid", f"`{name}` must be a whole number from 0 on.")
    return int(text)


def _hash(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise QueryError("log_query_invalid", "`leaf` must be the SHA-256 leaf hash, 64 hexadecimal digits.")
    return bytes.fromhex(text)


def _hex(path: list[bytes]) -> list[str]:
    return [step.hex() for step in path]


def _cached(request: Request, response: Any, seconds: int) -> HttpResponse:
    """With an entity tag and how long it holds, or 304 to who has it already."""
    content = repr(response.data).encode() if isinstance(response, Response) else response.content
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    found: HttpResponse = response
    if tag in parse_etags(request.headers.get("If-None-Match", "")):
        found = HttpResponse(status=304)
    found["ETag"] = tag
    patch_cache_control(found, public=True, max_age=seconds, **({"immutable": True} if seconds > 3600 else {}))
    return found
