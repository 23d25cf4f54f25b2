"""A complete yes: what the person filled in, kept sealed until its level is reached, and the change that it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from django.utils import timezone

from consent.models import Consent, Use
from consent.texts import POLITICAL_BOX
from consent.transitions import State, lock, move


@dataclass(frozen=True)
class Yes:
    """The answered form: checked, complete, and bound to the exact words that were read."""

    purposes: list[str]
    photos: list[dict[str, Any]]
    ticks: dict[str, bool]
    typed_name: str
    locale: str
    notice_id: str
    notice_version: str
    notice_sha256: str
    notice_text: str
    evidence: dict[str, Any]

    @classmethod
    def kept(cls, consent: Consent) -> Self | None:
        """The answer that waits for its check, or None."""
        text = consent.unseal("draft")
        return cls(**json.loads(text)) if text else None

    def keep(self, locked: Consent) -> None:
        """Seal the answer on the record; it is no permission yet."""
        locked.draft_sealed = locked.seal("draft", json.dumps(asdict(self)))
        locked.answered_at = timezone.now()
        locked.save(update_fields=["draft_sealed", "answered_at", "changed_at"])


def complete(locked: Consent, yes: Yes, *, level: str = "L1", evidence: Mapping[str, Any] | None = None) -> None:
    """Make a locked record a permission, with the evidence of the level that was reached.

    Raises ConsentError `assurance_required` if that is below what was asked.
    """
    now = timezone.now()
    extra = dict(evidence or {})
    political = not locked.no_political and bool(yes.ticks.get(POLITICAL_BOX))
    data: dict[str, Any] = {
        "purposes": yes.purposes,
        "photos": [photo["sha256"] for photo in yes.photos],
        "notice_sha256": yes.notice_sha256,
        "valid_until": locked.valid_until.isoformat(),
        "assurance": level,
        "political": political,
    }
    if challenge := extra.get("challenge_id"):
        data["challenge"] = challenge
    move(
        locked,
        State.GIVEN,
        data=data,
        assurance=level,
        purposes=yes.purposes,
        photos=yes.photos,
        no_political=not political,
        ticks=yes.ticks,
        typed_name_sealed=locked.seal("typed_name", yes.typed_name),
        locale=yes.locale,
        notice_id=yes.notice_id,
        notice_version=yes.notice_version,
        notice_sha256=yes.notice_sha256,
        notice_text_sealed=locked.seal("notice_text", yes.notice_text),
        evidence=yes.evidence | extra,
        valid_from=now,
        given_at=now,
        draft_sealed=None,
    )
    _supersede_older(locked)


def _supersede_older(given: Consent) -> None:
    """The permission this one was asked to replace gives way, unless a job is using it just now.

    Only where the request said so: two questions about the same pictures are otherwise two permissions, and a job that
    waits on the first must not be refused because the person also agreed to the second.
    """
    if given.supersedes_id is None:
        return
    older = lock(given.supersedes_id)
    if older.state == State.GIVEN and not older.uses.filter(state=Use.State.RESERVED).exists():
        move(older, State.SUPERSEDED, data={"by": given.pk})
