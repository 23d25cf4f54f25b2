"""The decoder of the mark's code, for one word and for a list."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.keys import MarkKey
from watermark.payload import CODED_BITS, INFO_BITS, encode
from watermark.trellis import decode_list

KEY = MarkKey("tests", bytes(range(32)))


def noisy(generator, deviation):
    """An id's code word behind noise, and its message as the decoder finds it without noise."""
    coded = 1.0 - 2.0 * encode(generator.bytes(8), KEY)
    clean = decode_list(coded.astype(np.float32), 1)[0]
    return (coded + generator.normal(0, deviation, CODED_BITS)).astype(np.float32), clean


@pytest.mark.parametrize("deviation", [0.5, 1.85, 3.0])
def test_the_first_of_the_list_is_the_single_best_word(deviation):
    generator = np.random.Generator(np.random.PCG64(3))
    for _ in range(5):
        soft, _clean = noisy(generator, deviation)
        assert (decode_list(soft, 16)[0] == decode_list(soft, 1)[0]).all()


def test_the_list_holds_as_many_different_words_as_were_asked_for():
    generator = np.random.Generator(np.random.PCG64(4))
    for count in (1, 2, 7, 16):
        words = decode_list(noisy(generator, 2.0)[0], count)
        assert words.shape == (count, INFO_BITS)
        assert words.dtype == np.uint8
        assert len(np.unique(words, axis=0)) == count


def test_a_list_begins_like_any_longer_one():
    soft, _ = noisy(np.random.Generator(np.random.PCG64(5)), 2.0)
    assert (decode_list(soft, 16)[:5] == decode_list(soft, 5)).all()


def test_the_list_finds_words_that_the_best_path_alone_loses():
    generator = np.random.Generator(np.random.PCG64(6))
    alone = listed = 0
    for _ in range(200):
        soft, message = noisy(generator, 1.85)
        hits = (decode_list(soft, 16) == message).all(axis=1)
        alone += int(hits[0])
        listed += int(hits.any())
    assert alone > 90
    assert listed >= alone + 10


def test_a_detour_across_the_seam_of_the_ring_is_listed_too():
    generator = np.random.Generator(np.random.PCG64(7))
    soft, message = noisy(generator, 1.2)
    assert (decode_list(soft, 1)[0] == message).all()
    for shift in (0, 31, 50, 93):
        turned = np.roll(soft.reshape(INFO_BITS, -1), shift, axis=0).reshape(-1)
        words = decode_list(turned, 4)
        assert {np.roll(word, -shift).tobytes() for word in words} == {word.tobytes() for word in decode_list(soft, 4)}


def test_silence_and_a_single_loud_bit_do_not_break_the_decoder():
    silent = np.zeros(CODED_BITS, np.float32)
    assert decode_list(silent, 3).shape[1] == INFO_BITS
    silent[17] = 1e30
    assert decode_list(silent, 1)[0].shape == (INFO_BITS,)
