"""The words for states are those of states that exist."""

from __future__ import annotations

from consent.models import Consent
from webapp.pages import words


def test_every_state_of_a_consent_has_words_and_no_other_state_has() -> None:
    assert set(words.CONSENT_STATES) == set(Consent.State.values)


def test_an_open_request_does_not_claim_to_know_whether_the_link_was_opened() -> None:
    state = words.consent_state(Consent.State.REQUESTED)
    assert state.label == "No answer yet"
    assert "opened" not in state.sentence
