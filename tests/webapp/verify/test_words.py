"""What an answer says beyond its verdict: AI, steps, inputs, certainty, comparison, times."""

from __future__ import annotations

from typing import Any

import pytest

from watermark.credentials import Action, Credentials, Ingredient
from watermark.verdict import ContentEvidence, Evidence, MarkEvidence, Verdict
from webapp.verify import words

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def said(code: Any, *kinds: str, ingredients: tuple[Ingredient, ...] = (), state: Any = "valid") -> str:
    credentials = Credentials(state, digital_source_types=tuple(IPTC + kind for kind in kinds), ingredients=ingredients)
    return words.ai_sentence(Verdict(code, "", "", "", "neutral", None, Evidence(credentials)))


def test_ai_is_told_as_what_it_is_and_no_more() -> None:
    assert said("ours_recovered") == "A face in it was replaced with an AI model."
    assert "made with an AI model" in said("other_unknown", "trainedAlgorithmicMedia")
    assert "parts of it" in said("other_trusted", "compositeWithTrainedAlgorithmicMedia")
    made = Ingredient("", "", "parentOf", "none", digital_source_types=(IPTC + "trainedAlgorithmicMedia",))
    assert "something it was made from" in said("other_trusted", ingredients=(made,))
    assert "does not mean that none was used" in said("other_trusted", "digitalCapture")
    for code in ("nothing_found", "disagree", "other_invalid"):
        assert "Nothing reliable" in said(code, "trainedAlgorithmicMedia", state="invalid")
    assert "Nothing can be said" in said("unreadable")


def test_no_word_of_it_says_that_a_picture_is_real() -> None:
    texts = [*words._ACTIONS.values(), *words._SOURCE_TYPES.values(), *words._NODE_STATES.values()]
    assert not [text for text in texts for word in ("authentic", "verified", "real") if word in text.lower().split()]


def test_steps_are_told_in_plain_words_and_unknown_ones_by_their_name() -> None:
    actions = (
        Action("c2pa.opened", when="2026-05-03T10:00:00Z"),
        Action("c2pa.edited", digital_source_type=IPTC + "compositeWithTrainedAlgorithmicMedia"),
        Action("com.example.very_odd", when="yesterday", digital_source_type="https://example.org/x"),
    )
    opened, edited, odd = words.steps(Credentials("valid", actions=actions))
    assert (opened.words, opened.when is not None) == ("Opened to be edited", True)
    assert edited.how == "edited with an AI model"
    assert (odd.words, odd.how, odd.when) == ("Very odd", "", None)


def test_an_invalid_input_stays_shown_as_invalid_and_names_no_issuer() -> None:
    inner = Ingredient("raw", "", "parentOf", "invalid", issuer="Forged")
    (node,) = words.tree(
        Credentials("trusted", ingredients=(Ingredient("", "", "x", "trusted", issuer="Lab", ingredients=(inner,)),))
    )
    assert (node.title, node.relation, node.issuer) == ("Without a name", "An input", "Lab")
    assert (node.nodes[0].tone, node.nodes[0].issuer) == ("error", "")


@pytest.mark.parametrize(
    ("power", "text"), [(-1.0, "little certainty"), (-3.2, "1 of 1,000 "), (-9.9, "1,000,000,000 "), (-40.0, "never")]
)
def test_certainty_is_told_as_odds(power: float, text: str) -> None:
    assert text in words.certainty(MarkEvidence(b"\0" * 8, false_alarm_log10=power))


def test_spans_lie_on_a_line_of_a_thousand_parts() -> None:
    mark = MarkEvidence(b"\0" * 8, spans=((0.0, 30.0), (59.9, 70.0)))
    first, last = words.spans(mark, 60.0)
    assert (first.start, first.end, first.x, first.width) == ("0:00", "0:30", 0, 500)
    assert last.x + last.width <= 1002
    assert last.width >= 4  # still to be seen
    assert words.spans(mark, 0.0) == []
    assert words.clock(3725.4) == "1:02:05"


def test_the_comparison_is_told_and_counted() -> None:
    def told(matches: bool | None, share: float, *regions: str) -> words.Compared:
        found = words.compared(ContentEvidence("out_1", matches, share=share, regions=regions))
        assert found is not None
        return found

    partly = told(True, 0.7, "==x", ". =")
    assert partly.words == "It shows what we published, but parts of it differ."
    assert (partly.agree, partly.differ, partly.columns) == (3, 1, 3)
    assert partly.rows[1] == ((0, 1, "plain"), (1, 1, "gone"), (2, 1, "same"))
    assert told(False, 0.1).words == "It does not show what we published."
    assert "too little" in told(None, 0.0).words
    assert words.compared(None) is None


@pytest.mark.parametrize("text", ["", "yesterday", "2026-05-03", "2026-05-03T10:00:00", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time_with_a_zone_is_not_shown_as_one(text: str) -> None:
    assert words.moment(text) is None
