"""The consent links of a new job, kept for the browser session that asked, so that a reload does not lose them.

The database keeps only hashes of the tokens, and a session row is in the database; so the links lie in it encrypted
under a key derived from the master key. They go when the person asks to hide them or the session ends.
"""

from __future__ import annotations

import base64
import json

from cryptography.fernet import Fernet, InvalidToken
from django.http import HttpRequest

from consent import keys

SESSION_KEY = "consent_links"
MAX_JOBS = 20


def _cipher() -> Fernet:
    return Fernet(base64.urlsafe_b64encode(keys.subkey("session links")))


def keep(request: HttpRequest, job_id: str, tokens: dict[str, str]) -> None:
    """Keep the tokens (consent id -> token) of a job for this session; the oldest of more than 20 jobs are dropped."""
    kept = dict(request.session.get(SESSION_KEY, {}))
    kept[job_id] = _cipher().encrypt(json.dumps(tokens).encode()).decode()
    request.session[SESSION_KEY] = dict(list(kept.items())[-MAX_JOBS:])


def shown(request: HttpRequest, job_id: str) -> dict[str, str]:
    """The tokens of a job that this session may still see (consent id -> token)."""
    sealed = request.session.get(SESSION_KEY, {}).get(job_id)
    if not sealed:
        return {}
    try:
        return dict(json.loads(_cipher().decrypt(sealed.encode())))
    except InvalidToken:
        return {}


def hide(request: HttpRequest, job_id: str) -> None:
    """Forget the links of a job."""
    kept = dict(request.session.get(SESSION_KEY, {}))
    kept.pop(job_id, None)
    request.session[SESSION_KEY] = kept
