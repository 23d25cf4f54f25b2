"""False alarms, averages of many outputs, and copied marks."""

from __future__ import annotations

import numpy as np
import pytest

from watermark import image
from watermark.bench import security
from watermark.bench.attacks import seeded
from watermark.bench.corpus import Picture
from watermark.bench.negatives import check_negative, false_alarms, make_negative, observed, run_negatives
from watermark.bench.scenes import landscape
from watermark.bench.suite import bench_keys
from watermark.lock import Lock
from watermark.reading import Attempts

PICTURES = [
    Picture(f"{kind}-n", kind, "tune", shape=shape)
    for kind, shape in (("landscape", (400, 300)), ("solids", (320, 320)), ("texture", (380, 300)))
]


def test_negatives_follow_from_their_seed_so_that_ranges_add_up():
    whole = list(run_negatives(PICTURES, 4, seed_from=10, effort="fast", jobs=1))
    parts = [*run_negatives(PICTURES, 2, seed_from=10, effort="fast", jobs=1)]
    parts += run_negatives(PICTURES, 2, seed_from=12, effort="fast", jobs=1)
    assert [(one.seed, one.edits, one.best) for one in whole] == [(one.seed, one.edits, one.best) for one in parts]
    found = false_alarms(whole)
    assert found.checks == 4
    assert found.accepted == 0
    assert sum(count for _, count in found.histogram) == 4
    assert found.bound_log10 < -9


def test_two_processes_find_what_one_finds():
    alone, shared = ({one.seed: one for one in run_negatives(PICTURES, 5, effort="fast", jobs=jobs)} for jobs in (1, 2))
    assert {seed: one.edits for seed, one in alone.items()} == {seed: one.edits for seed, one in shared.items()}
    # Sums in float32 may be added up in another order with another number of threads.
    scores = {seed: one.best for seed, one in shared.items()}
    assert {seed: one.best for seed, one in alone.items()} == pytest.approx(scores, rel=1e-5)


def test_some_negatives_carry_another_keys_mark():
    assert {make_negative(seed, PICTURES)[2] for seed in range(12)} == {True, False}


def test_a_reading_is_watched_and_the_reader_is_left_as_it_was():
    before = Lock.__init__, Attempts.decode
    marked = image.embed(PICTURES[0].pixels(), b"watched!", bench_keys()[0])
    with observed() as seen:
        assert image.read(marked, bench_keys(), "fast")
    assert seen.attempts >= 1
    assert seen.best > 9
    assert (Lock.__init__, Attempts.decode) == before


def test_a_false_alarm_would_be_counted():
    one = check_negative(3, PICTURES, bench_keys(), "fast")
    assert false_alarms([one]).accepted == 0
    with pytest.raises(ValueError, match="no negatives"):
        false_alarms([])


def test_an_average_of_one_mark_shows_its_lines_and_notching_them_takes_it_away():
    """The attack must be able to succeed, or its failure on many ids says nothing."""
    key, mark_id = bench_keys()[0], b"same id!"
    total = np.zeros((2, 360, 241), np.complex64)
    for index in range(30):
        marked = image.embed(landscape((480, 360), seeded(index, "average")), mark_id, key, "default")
        total += security._half_spectra(marked)
    bins = security.stands_out(np.abs(total))
    assert bins.sum() > 1000
    before = image.read(marked, [key], "fast")
    after = image.read(security.notched(marked, bins), [key], "fast")
    assert before is not None
    assert after is None or after.score < before.score / 2


def test_outputs_with_fresh_ids_survive_their_average():
    results = security.collusion(PICTURES, bench_keys(), "durable", outputs=10, tries=2, effort="fast")
    assert [one.method for one in results] == ["mean of spectra", "mean of power", "both"]
    assert all(one.still_read == one.tries == 2 for one in results[:1])
    assert all(one.lost_db > 25 for one in results)


def test_a_copied_mark_is_read_and_not_believed():
    results = list(security.copies(PICTURES, bench_keys(), "durable", tries=2, frames=6, effort="fast"))
    assert [one.method for one in results] == [*security.LIFTERS, "average of 6 frames"]
    assert sum(one.read for one in results) > 0
    assert sum(one.ours for one in results) == 0
