"""The verbs of consent: the only writers of this room, and the one import for everybody outside it.

A verb is one transaction: compare-and-set of the state, the event, and the effects others registered.
"""

from __future__ import annotations

from consent.answers import (
    answer_consent,
    expire_due,
    give_consent,
    refuse_consent,
    revoke_consent,
    view_consent,
    withdraw_consent,
)
from consent.attestations import attest_declaration, attest_target_rights
from consent.challenge.clips import register_clip_storage
from consent.challenge.services import (
    CHECK_STATES,
    check_state,
    issue_challenge,
    reject_challenge,
    release_challenge,
    return_check,
    reviews,
    settle_check,
    submit_clip,
)
from consent.deadlocks import survives_deadlocks
from consent.errors import ConsentError
from consent.mail import link
from consent.previews import register_preview
from consent.requests import PhotoRef, Scope, TargetRef, find_by_token, request_consent
from consent.texts import NoticeText, consent_text, declaration_text, rights_bases, target_rights_text
from consent.transitions import hold, register_effect
from consent.uses import count_use, facts_of, left_of, release_use, reserve_use, state_of

__all__ = [
    "CHECK_STATES",
    "ConsentError",
    "NoticeText",
    "PhotoRef",
    "Scope",
    "TargetRef",
    "answer_consent",
    "attest_declaration",
    "attest_target_rights",
    "check_state",
    "consent_text",
    "count_use",
    "declaration_text",
    "expire_due",
    "facts_of",
    "find_by_token",
    "give_consent",
    "hold",
    "issue_challenge",
    "left_of",
    "link",
    "refuse_consent",
    "register_clip_storage",
    "register_effect",
    "register_preview",
    "reject_challenge",
    "release_challenge",
    "release_use",
    "request_consent",
    "reserve_use",
    "return_check",
    "reviews",
    "revoke_consent",
    "rights_bases",
    "settle_check",
    "state_of",
    "submit_clip",
    "survives_deadlocks",
    "target_rights_text",
    "view_consent",
    "withdraw_consent",
]
