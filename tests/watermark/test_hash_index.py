"""The index finds what counting all bits finds, no more and no less, and survives on disk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from watermark import pdq
from watermark.hash_index import RADIUS, HashIndex, Match

RGB = NDArray[np.uint8]


def index_of(hashes: NDArray[np.uint8]) -> HashIndex:
    numbers = np.arange(len(hashes), dtype=np.uint32)
    return HashIndex.build(hashes, (numbers % 3).astype(np.uint16), numbers + 10)


def brute(hashes: NDArray[np.uint8], asked: list[bytes], radius: int) -> set[Match]:
    found = set()
    for query, each in enumerate(asked):
        for number, value in enumerate(hashes):
            apart = pdq.distance(each, value.tobytes())
            if apart <= radius:
                found.add(Match(query, number % 3, number + 10, apart))
    return found


def flipped(value: bytes, bits: list[int]) -> bytes:
    number = int.from_bytes(value, "big")
    for bit in bits:
        number ^= 1 << bit
    return number.to_bytes(32, "big")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(0, RADIUS), st.sampled_from([2, 16, 256]))
def test_it_finds_exactly_what_brute_force_finds(seed: int, count: int, radius: int, values: int) -> None:
    """Hashes at random, crowded into few values too, and questions that lie about the radius away from some of them."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, values, (count, 32)).astype(np.uint8)
    asked = [rng.bytes(32)]
    for _ in range(9):
        near = hashes[rng.integers(count)].tobytes()
        bits = rng.choice(256, rng.integers(0, radius + 3), replace=False)
        asked.append(flipped(near, [int(bit) for bit in bits]))
    assert set(index_of(hashes).search(asked, radius)) == brute(hashes, asked, radius)


@pytest.mark.parametrize(("extra", "found"), [(0, True), (1, False)])
def test_the_worst_spread_of_31_bits_is_found_and_32_are_not(extra: int, found: bool) -> None:
    """Two bits in each of 15 bands and one in the last: only there a band differs in so few."""
    value = bytes(range(32))
    bits = [16 * band + place for band in range(16) for place in (3, 11)][: 31 + extra]
    rng = np.random.default_rng(5)
    hashes = np.concatenate([rng.integers(0, 256, (5000, 32)).astype(np.uint8), np.frombuffer(value, np.uint8)[None]])
    matches = index_of(hashes).search([flipped(value, bits)])
    assert [match.distance for match in matches] == ([31] if found else [])


def test_what_was_written_is_read_and_anything_else_is_refused(tmp_path: Path) -> None:
    hashes = np.random.default_rng(1).integers(0, 256, (300, 32)).astype(np.uint8)
    path = tmp_path / "some.idx"
    index_of(hashes).write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again = HashIndex.open(path)
    assert len(again) == 300
    asked = [hashes[7].tobytes(), bytes(32)]
    assert again.search(asked) == index_of(hashes).search(asked)
    assert again.search(asked)[0] == Match(0, 1, 17, 0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError):
        HashIndex.open(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError):
        HashIndex.open(path)


def test_an_empty_index_holds_nothing(tmp_path: Path) -> None:
    index_of(np.empty((0, 32), np.uint8)).write(tmp_path / "none.idx")
    assert HashIndex.open(tmp_path / "none.idx").search([bytes(32)]) == []


@pytest.mark.parametrize(("asked", "radius"), [([bytes(31)], 31), ([bytes(32)], 32), ([bytes(32)], -1)])
def test_a_question_that_is_none_is_refused(asked: list[bytes], radius: int) -> None:
    with pytest.raises(ValueError):
        index_of(np.zeros((1, 32), np.uint8)).search(asked, radius)


def test_the_eight_ways_of_a_picture_are_those_of_the_turned_and_mirrored_pictures(astronaut: RGB, grace: RGB) -> None:
    for picture in (astronaut, grace, cv2.resize(grace, (301, 457), interpolation=cv2.INTER_AREA)):
        ways, quality = pdq.hash_ways(picture)
        assert (ways[0], quality) == pdq.hash_picture(picture)
        assert len(set(ways)) == 8
        turned = [np.rot90(picture, turns)[:, ::step] for turns in range(4) for step in (1, -1)]
        exact = {pdq.hash_picture(np.ascontiguousarray(each))[0] for each in turned}
        assert exact == set(ways)
