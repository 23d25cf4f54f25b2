"""Every attack of the list: what it returns, and that nothing but the seed decides it."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.bench.attack_kit import GROUPS, LEAST_SIDE
from watermark.bench.attacks import _ALL, ATTACKS, chosen, seeded
from watermark.bench.goals import goal, named
from watermark.bench.scenes import landscape


@pytest.fixture(scope="module")
def picture():
    return landscape((208, 160), seeded(1, "attacked"))


def test_names_are_unique_and_every_group_is_there():
    assert len(ATTACKS) == len(_ALL)
    assert {attack.group for attack in ATTACKS.values()} == set(GROUPS)
    assert len(ATTACKS) >= 91


def test_every_goal_belongs_to_an_attack():
    assert set(named()) <= set(ATTACKS)
    assert all(0 < goal(one.name, one.group, "default") <= goal(one.name, one.group, "durable") for one in _ALL)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_returns_a_picture_that_follows_from_the_seed_and_leaves_its_input_alone(name, picture):
    before = picture.copy()
    hurt = ATTACKS[name](picture, seeded(3, name))
    assert hurt.dtype == np.uint8
    assert hurt.ndim == 3
    assert hurt.shape[2] == 3
    assert min(hurt.shape[:2]) >= LEAST_SIDE
    assert hurt.flags.owndata or hurt.base is not picture
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(hurt, ATTACKS[name](picture, seeded(3, name)))
    if name != "none":
        assert hurt.shape != picture.shape or (hurt != picture).any()


@pytest.mark.parametrize(
    "name", ["crop_0.05", "scale_0.25_kept", "repost_x3", "rot_10_inside", "thumb_480_q70", "collage_4"]
)
def test_the_smallest_markable_picture_stays_a_picture(name):
    small = landscape((96, 96), seeded(1, "small"))
    assert min(ATTACKS[name](small, seeded(1, name)).shape[:2]) >= LEAST_SIDE


@pytest.mark.parametrize("name", ["crop_0.25", "noise_10", "perspective_8", "overlay", "jitter_warp", "row_col_drop"])
def test_another_seed_gives_another_picture(name, picture):
    first, second = (ATTACKS[name](picture, seeded(seed, name)) for seed in (1, 2))
    assert first.shape != second.shape or (first != second).any()


def test_a_crop_keeps_the_named_share_of_the_area():
    picture = landscape((1000, 800), seeded(1, "area"))
    for area in (0.8, 0.5, 0.25, 0.1, 0.05):
        part = ATTACKS[f"crop_{area:g}"](picture, seeded(1, "crop"))
        assert part.shape[0] * part.shape[1] / 800_000 == pytest.approx(area, rel=0.01)


def test_a_picture_turned_to_the_inside_shows_no_corner():
    white = np.full((300, 400, 3), 255, np.uint8)
    assert ATTACKS["rot_10_inside"](white, seeded(1, "turn"))[2:-2, 2:-2].min() > 200
    assert ATTACKS["rot_30_corners"](white, seeded(1, "turn"))[0, 0].max() == 0


def test_attacks_are_chosen_by_name_and_group():
    assert [one.name for one in chosen(["jpeg_50", "none"])] == ["none", "jpeg_50"]
    assert {one.group for one in chosen(groups=["chain"])} == {"chain"}
    assert len(chosen()) == len(ATTACKS)
    with pytest.raises(KeyError, match="jpeg_51"):
        chosen(["jpeg_51"])
