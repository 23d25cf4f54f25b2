"""The part of `driver` that comes in by the house's doors: the pages in a browser, and the API with a partner's key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.chaos.driver_forgetting import find_cleo

_doors: dict[str, Any] = {}  # the browser and the key that `browser` made


def browser() -> None:
    """From now on Cleo is logged in at the pages and has a partner key at the API."""
    from urllib.parse import urlsplit

    from django.conf import settings
    from django.test import Client

    from webapp.accounts import services

    _, key = services.issue_api_key(find_cleo().organisation, name="tests")
    client = Client(raise_request_exception=False, HTTP_HOST=urlsplit(settings.PUBLIC_URL).netloc)
    client.force_login(find_cleo())
    _doors["client"], _doors["key"] = client, {"Authorization": f"Bearer {key}"}


def api_upload(path: str, role: str) -> dict[str, Any]:
    """POST /v1/assets as a partner does."""
    with Path(path).open("rb") as file:
        answer = _doors["client"].post("/v1/assets", {"role": role, "file": file}, headers=_doors["key"])
    return {"status": answer.status_code, "body": answer.json()}


def api(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """GET, or POST with a body, as a partner does."""
    client, headers = _doors["client"], _doors["key"]
    if body is None:
        answer = client.get(path, headers=headers)
    else:
        answer = client.post(path, json.dumps(body), content_type="application/json", headers=headers)
    return {"status": answer.status_code, "body": answer.json()}


def page_upload(path: str, role: str, keep: str) -> dict[str, Any]:
    """Step 1 of the wizard: a file of one role; `keep` is an asset of the other role sent before. Says where it led."""
    with Path(path).open("rb") as file:
        data = {"sources": file, "target": keep} if role == "source" else {"target_file": file, "source": keep}
        answer = _doors["client"].post("/new", data)
    return {"status": answer.status_code, "location": answer.get("Location", "")}


def page_text(path: str) -> dict[str, Any]:
    """The words a person reads on a page, tags taken off."""
    import html
    import re

    answer = _doors["client"].get(path, follow=True)
    main = re.sub(r"(?s).*<main[^>]*>|</main>.*", "", answer.content.decode())
    words = html.unescape(re.sub(r"<[^>]+>", " ", main))
    return {"status": answer.status_code, "text": " ".join(words.split()), "path": answer.request["PATH_INFO"]}
