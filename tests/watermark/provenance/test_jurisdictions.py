"""Which label the rules of several places make together, and that no wish makes it less."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.jurisdictions import RULES, WORDS, forbids, notice
from watermark.labels import LabelRenderer

PLACES = ["top-right", "top-left", "bottom-right", "bottom-left"]
names = st.lists(st.sampled_from(sorted(RULES)), min_size=1, max_size=4)
wishes = st.fixed_dictionaries(
    {
        "language": st.sampled_from(["", *WORDS]),
        "place": st.sampled_from(PLACES),
        "extent": st.sampled_from(["throughout", "start"]),
    }
)


@pytest.mark.parametrize("language", sorted(WORDS))
@pytest.mark.parametrize("size", [(1920, 1080), (320, 240), (240, 426)])
def test_the_words_of_every_language_can_be_drawn_alone_and_with_chinese(language, size):
    for text in (WORDS[language], f"{WORDS[language]}\n{WORDS['zh']}"):
        label = LabelRenderer(size, text)
        frame = label.apply(np.zeros((size[1], size[0], 3), np.uint8))
        left, top, right, bottom = label.box
        assert (frame[top:bottom, left:right] > 200).any()
        for edge in (frame[top, left:right], frame[bottom - 1, left:right], frame[top:bottom, left]):
            assert edge.max() < 100, "a letter is cut off"


def test_europe_reads_modified_at_the_top_right_for_the_whole_length_in_its_language():
    assert notice(["eu"], language="de").lines == ("MIT KI VERÄNDERT",)
    found = notice(["eu"], place="bottom-left", extent="start")
    assert (found.lines, found.place, found.seconds, found.aigc) == (("AI MODIFIED",), "top-right", None, False)


def test_china_reads_chinese_in_letters_of_a_twentieth_for_at_least_two_seconds_and_in_the_metadata():
    found = notice(["cn"], extent="start", place="bottom-left")
    assert found.lines == ("AI合成",)
    assert found.seconds is not None
    assert found.seconds >= 2.0
    assert (found.letter_share >= 0.05, found.aigc, found.place) == (True, True, "bottom-left")
    assert notice(["cn"]).seconds is None
    assert notice(["cn"], language="en").lines == ("AI MODIFIED", "AI合成")


def test_two_places_together_get_both_languages_and_the_stricter_of_the_rest():
    found = notice(["cn", "eu"], house_language="fr", extent="start", place="top-left")
    assert found.lines == ("MODIFIÉ PAR IA", "AI合成")
    assert (found.place, found.seconds, found.aigc) == ("top-right", None, True)


@given(names, names, wishes)
def test_more_jurisdictions_never_make_the_label_less(house, added, wish):
    less, more = notice(house, **wish), notice([*house, *added], **wish)
    assert more.letter_share >= less.letter_share
    assert (more.seconds or 1e9) >= (less.seconds or 1e9)
    assert more.aigc >= less.aigc
    demanded = {WORDS[RULES[name].language] for name in house if RULES[name].language}
    assert demanded <= set(more.lines)
    assert len(set(more.lines)) == len(more.lines) >= 1


@given(names, wishes)
def test_a_wish_is_either_followed_or_forbidden_in_words(jurisdictions, wish):
    found = notice(jurisdictions, **wish)
    reason = forbids(jurisdictions, place=wish["place"], extent=wish["extent"])
    followed = found.place == wish["place"] and (wish["extent"] == "throughout" or found.seconds is not None)
    assert bool(reason) != followed


def test_the_order_of_the_places_does_not_matter():
    for order in itertools.permutations(RULES):
        assert set(notice(order).lines) == set(notice(RULES).lines)
        assert (notice(order).place, notice(order).seconds) == ("top-right", None)
