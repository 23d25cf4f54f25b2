"""Who is who in a film: stretches of one person are put together, those of two never, and what is unsure stays open."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from worker.faces.embed import distance
from worker.faces.persons import UNSURE, Stretch, described, group
from worker.limits import IDENTITY_PASS, IDENTITY_REVIEW

ANN = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
BOB = np.array([0.0, 1.0, 0.0, 0.0], np.float32)


def near(person, by, axis=2):
    moved = person.copy()
    moved[axis] += by
    return moved


def persons(*stretches):
    return group(stretches, distance, same=IDENTITY_PASS, margin=0.1, other=IDENTITY_REVIEW)


def test_stretches_of_one_person_are_one_and_the_least_number_names_it():
    found = persons(
        Stretch(0, 0, 40, 41, ANN),
        Stretch(1, 0, 40, 41, BOB),
        Stretch(2, 50, 90, 41, near(BOB, 0.2)),
        Stretch(3, 50, 90, 41, near(ANN, -0.3)),
    )
    assert found == {0: 0, 1: 1, 2: 1, 3: 0}


def test_two_who_are_seen_at_once_are_two_however_alike():
    assert persons(Stretch(0, 0, 40, 41, ANN), Stretch(1, 40, 60, 21, near(ANN, 0.05))) == {0: 0, 1: 1}


def test_one_who_may_be_either_of_two_stays_open():
    twin = near(ANN, 0.3)
    between = near(ANN, 0.13)
    found = persons(Stretch(0, 0, 40, 41, ANN), Stretch(1, 0, 40, 41, twin), Stretch(2, 60, 90, 31, between))
    assert found == {0: 0, 1: 1, 2: 2}
    clear = persons(Stretch(0, 0, 40, 41, ANN), Stretch(1, 0, 40, 41, twin), Stretch(2, 60, 90, 31, near(ANN, 0.02)))
    assert clear == {0: 0, 1: 1, 2: 0}


@pytest.mark.parametrize("away", [IDENTITY_PASS + 0.01, 0.7])
def test_beyond_the_limit_nobody_is_put_together(away):
    assert persons(Stretch(0, 0, 9, 10, ANN), Stretch(1, 20, 29, 10, near(ANN, away))) == {0: 0, 1: 1}


def test_a_stretch_that_leads_from_a_person_to_the_same_person_is_theirs():
    meeting = Stretch(2, 41, 50, 10, None, follows=0, doubtful=True)
    after = Stretch(4, 51, 90, 40, near(ANN, 0.1), follows=2, doubtful=True)
    assert persons(Stretch(0, 0, 40, 41, ANN), meeting, after) == {0: 0, 2: 0, 4: 0}
    other = Stretch(4, 51, 90, 40, BOB, follows=2, doubtful=True)
    assert persons(Stretch(0, 0, 40, 41, ANN), meeting, other) == {0: 0, 2: UNSURE, 4: 4}
    # One that is surely somebody else is not led past.
    stranger = Stretch(2, 41, 60, 20, BOB, follows=0, doubtful=True)
    assert persons(Stretch(0, 0, 40, 41, ANN), stranger, Stretch(4, 61, 90, 30, ANN, follows=2))[2] == 2


def test_the_order_does_not_matter_and_nobody_is_in_two_places():
    rng = np.random.default_rng(4)
    for _ in range(40):
        faces = [rng.normal(0, 0.35, 4).astype(np.float32) for _ in range(3)]
        stretches = []
        for number in range(9):
            first = int(rng.integers(0, 200))
            face = faces[number % 3] + rng.normal(0, 0.08, 4).astype(np.float32)
            stretches.append(Stretch(number, first, first + int(rng.integers(3, 60)), 10, face))
        found = persons(*stretches)
        assert persons(*reversed(stretches)) == found
        for one, other in itertools.combinations(stretches, 2):
            if found[one.number] == found[other.number]:
                assert one.last < other.first or other.last < one.first


def test_a_person_is_described_by_all_stretches_in_proportion():
    stretches = [Stretch(0, 0, 29, 30, ANN), Stretch(1, 50, 59, 10, near(ANN, 0.4)), Stretch(2, 70, 75, 5, None)]
    (only,) = described(stretches, {0: 0, 1: 0, 2: UNSURE}).values()
    np.testing.assert_allclose(only, [1, 0, 0.1, 0], atol=1e-6)
