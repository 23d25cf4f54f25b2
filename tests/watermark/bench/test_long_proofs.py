"""The long proofs of the mark: thousands of hard negatives, collusion and copies."""

from __future__ import annotations

import pytest

from watermark.bench.corpus import corpus
from watermark.bench.negatives import false_alarms, run_negatives
from watermark.bench.security import collusion, copies
from watermark.bench.suite import bench_keys
from watermark.embedding import MarkMode

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def test_in_four_thousand_hard_negatives_nothing_is_read() -> None:
    found = false_alarms(list(run_negatives(corpus(), 4000, seed_from=100_000, effort="full")))
    assert found.checks == 4000
    assert found.accepted == 0
    assert found.bound_log10 < -9


@pytest.mark.parametrize("mode", ["default", "durable"])
def test_after_an_average_of_fifty_outputs_and_a_notch_the_mark_is_still_read(mode: MarkMode) -> None:
    for found in collusion(corpus(), bench_keys(), mode, tries=20):
        assert found.still_read >= 0.85 * found.tries


@pytest.mark.parametrize("mode", ["default", "durable"])
def test_marks_copied_onto_other_pictures_are_not_taken_for_ours(mode: MarkMode) -> None:
    results = list(copies(corpus(), bench_keys(), mode, tries=20))
    assert sum(each.read for each in results) > 20
    assert sum(each.ours for each in results) <= 0.02 * sum(each.read for each in results)
