"""The verbs of consent: the only writers of this room, and the one import for everybody outside it.

A verb is one transaction: compare-and-set of the state, the event, and the effects others registered.
"""

from __future__ import annotations

from consent.answers import (
    expire_due,
    give_consent,
    refuse_consent,
    revoke_consent,
    view_consent,
    withdraw_consent,
)
from consent.attestations import attest_declaration, attest_target_rights
from consent.deadlocks import survives_deadlocks
from consent.errors import ConsentError
from consent.mail import link
from consent.previews import register_preview
from consent.requests import PhotoRef, Scope, TargetRef, find_by_token, request_consent
from consent.texts import NoticeText, consent_text, declaration_text, rights_bases, target_rights_text
from consent.transitions import hold, register_effect
from consent.uses import count_use, facts_of, left_of, release_use, reserve_use, state_of

__all__ = [
    "ConsentError",
    "NoticeText",
    "PhotoRef",
    "Scope",
    "TargetRef",
    "attest_declaration",
    "attest_target_rights",
    "consent_text",
    "count_use",
    "declaration_text",
    "expire_due",
    "facts_of",
    "find_by_token",
    "give_consent",
    "hold",
    "left_of",
    "link",
    "refuse_consent",
    "register_effect",
    "register_preview",
    "release_use",
    "request_consent",
    "reserve_use",
    "revoke_consent",
    "rights_bases",
    "state_of",
    "survives_deadlocks",
    "target_rights_text",
    "view_consent",
    "withdraw_consent",
]
