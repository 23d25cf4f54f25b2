"""The numbers that a pack's right to decide rests on: equal to scikit-learn's, and to counting by hand.

`scikit_learn.json` holds scores, labels and what scikit-learn (the version stands in it) made of them; scikit-learn
itself is no dependency of the house.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.gate.packs import calibration, drift, metrics
from worker.gate.packs.metrics import Scored

KNOWN = json.loads(Path(__file__).with_name("scikit_learn.json").read_text())["cases"]


@pytest.mark.parametrize("case", KNOWN, ids=["smooth", "many ties", "well apart"])
def test_all_equals_scikit_learn_to_a_millionth(case: dict[str, Any]) -> None:
    fake, scores = np.array(case["fake"]), np.array(case["scores"])
    assert metrics.auc(fake, scores) == pytest.approx(case["auc"], abs=1e-6)
    assert metrics.brier(fake, scores) == pytest.approx(case["brier"], abs=1e-6)
    platt = calibration.fit_curve(scores, fake, "platt")
    np.testing.assert_allclose(platt(scores), case["platt"], atol=1e-6)
    isotonic = calibration.fit_curve(scores, fake, "isotonic")
    np.testing.assert_allclose(isotonic(np.linspace(0, 1, 41)), case["isotonic"], atol=1e-6)
    assert metrics.calibration_error(fake, isotonic(scores)) == pytest.approx(case["ece"], abs=1e-6)


SCORES = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40).filter(
    lambda rows: len({fake for fake, _ in rows}) == 2
)


@given(SCORES)
def test_the_area_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int]]) -> None:
    fake, scores = np.array([one for one, _ in rows]), np.array([float(one) for _, one in rows])
    pairs = [(a > b) + (a == b) / 2 for a in scores[fake] for b in scores[~fake]]
    assert metrics.auc(fake, scores) == pytest.approx(sum(pairs) / len(pairs))


@given(SCORES, st.integers(0, 7))
def test_drawing_a_file_twice_counts_it_twice(rows: list[tuple[bool, int]], seed: int) -> None:
    fake, scores = np.array([one for one, _ in rows]), np.array([float(one) for _, one in rows])
    counts = np.random.default_rng(seed).integers(1, 4, len(rows))
    repeated = metrics.auc(np.repeat(fake, counts), np.repeat(scores, counts))
    assert metrics.weighted_auc(fake, scores, counts.astype(float)) == pytest.approx(repeated)


def test_the_interval_is_by_source_and_not_by_file() -> None:
    draw = np.random.default_rng(1)
    # 20 sources of 50 nearly equal files each: a thousand files, but no more evidence than 20.
    centre = draw.normal(size=20) + np.repeat([0.0, 1.0], 10)
    fake = np.repeat(np.repeat([False, True], 10), 50)
    scores = np.repeat(centre, 50) + 0.01 * draw.normal(size=1000)
    by_source = metrics.auc_interval(fake, scores, [str(one) for one in np.repeat(range(20), 50)], draws=400)
    by_file = metrics.auc_interval(fake, scores, [str(one) for one in range(1000)], draws=400)
    assert by_source == metrics.auc_interval(fake, scores, [str(one) for one in np.repeat(range(20), 50)], draws=400)
    assert by_source[1] - by_source[0] > 4 * (by_file[1] - by_file[0])
    assert by_source[0] < metrics.auc(fake, scores) < by_source[1]


def test_the_rates_are_those_counted_by_hand() -> None:
    files = [
        *(Scored(False, "", f"p{n}", score, "over 40" if n < 5 else "") for n, score in enumerate(np.arange(20) / 20)),
        *(Scored(True, "swap", f"s{n}", score) for n, score in enumerate((0.2, 0.9, 0.95, 0.99))),
        *(Scored(True, "reenactment", "r", score) for score in (0.1, 0.3, 0.9)),
        Scored(False, "", "p99", None),
        Scored(True, "swap", "s9", None),
    ]
    found = metrics.rates(files, 0.9, draws=50)
    assert found.apcer == {"reenactment": pytest.approx(2 / 3), "swap": 0.25}
    assert found.worst_species == "reenactment"
    assert found.bpcer == pytest.approx(2 / 20)  # 0.90 and 0.95
    assert (found.apnrr, found.bpnrr) == (pytest.approx(1 / 8), pytest.approx(1 / 21))
    assert found.sources == {"reenactment": 1, "swap": 4}
    assert found.bona_fide_sources == 20
    assert found.bpcer20 == found.bpcer100 == pytest.approx(18 / 20)  # no attack may be missed: threshold 0.1
    assert found.groups == {"over 40": 0.0}
    # 3 of 7 attacks missed, 2 of 20 alarms false, at 2 % prevalence: Bayes by hand.
    right, wrong = 4 / 7 * 0.02, 0.1 * 0.98
    assert found.precision[0.02] == pytest.approx(right / (right + wrong))


def test_the_reference_table_of_precision_holds() -> None:
    """The gate's reference, 8.1: APCER 20 %, BPCER 5 %."""
    found = [metrics.alarm_precision(0.2, 0.05, one) for one in metrics.PREVALENCES]
    assert [round(100 * one) for one in found] == [7, 25, 64]


def test_without_a_class_nothing_is_told() -> None:
    found = metrics.rates([Scored(False, "", "a", 0.4)], 0.5, draws=10)
    assert math.isnan(found.auc)
    assert math.isnan(found.auc_low)
    assert found.apcer == {}
    assert math.isnan(found.bpcer20)


def test_thresholds_are_frozen_where_the_share_of_bona_fide_files_is_met() -> None:
    draw = np.random.default_rng(5)
    for size in (20, 99, 100, 1000):
        scores = draw.random(size)
        for share in (0.05, 0.01):
            threshold = calibration.threshold_at(scores, share)
            assert metrics.bpcer(scores, threshold) <= share
            assert metrics.bpcer(scores, np.nextafter(threshold, 0)) > share
    assert metrics.bpcer(np.full(50, 0.3), calibration.threshold_at(np.full(50, 0.3), 0.05)) == 0.0


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_calibration_is_right_on_files_it_has_not_seen(method: calibration.Method) -> None:
    """Synthetic scores whose true probability is known: ECE below 0.03 (goal 7 of the gate's reference)."""
    draw = np.random.default_rng(11)

    def files(count: int) -> tuple[np.ndarray, np.ndarray]:
        fake = draw.random(count) < 0.5
        return calibration.sigmoid(2.5 * (draw.normal(size=count) + 1.2 * fake) - 3), fake

    scores, fake = files(6000)
    made = calibration.calibrate(scores, fake, method, pack_sha256="a", data_sha256="b", date="c")
    later, truth = files(20000)
    assert metrics.calibration_error(truth, made.curve(later)) < 0.03
    assert metrics.calibration_error(truth, later) > 0.1  # as the raw score was
    assert made == calibration.Calibration.of(json.loads(json.dumps(made.to_dict())))
    bona_fide = made.curve(later[~truth])
    assert metrics.bpcer(bona_fide, made.review) == pytest.approx(0.05, abs=0.01)
    assert metrics.bpcer(bona_fide, made.high) == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_curve_never_falls_and_stays_a_probability(method: calibration.Method) -> None:
    for case in KNOWN:
        curve = calibration.fit_curve(case["scores"], case["fake"], method)
        values = curve(np.linspace(0, 1, 500))
        assert np.all(np.diff(values) >= 0)
        assert values.min() >= 0
        assert values.max() <= 1


def test_too_few_files_and_a_broken_record_are_no_calibration() -> None:
    with pytest.raises(calibration.CalibrationError) as caught:
        calibration.fit_curve(np.linspace(0, 1, 39), np.arange(39) < 19, "platt")
    assert caught.value.code == "too_few_samples"
    made = calibration.calibrate(
        KNOWN[0]["scores"], KNOWN[0]["fake"], "platt", pack_sha256="a", data_sha256="b", date="c"
    ).to_dict()
    for harm in ({"review": math.nan}, {"curve": {"method": "guess", "x": [1], "y": [1]}}, {"high": -1.0}, {"more": 1}):
        with pytest.raises(calibration.CalibrationError) as caught:
            calibration.Calibration.of({**made, **harm})
        assert caught.value.code == "calibration_malformed"


def test_drift_is_told_from_chance() -> None:
    draw = np.random.default_rng(7)
    reference = np.quantile(draw.beta(2, 6, 5000), np.linspace(0, 1, 11)).tolist()
    same = drift.watch(reference, draw.beta(2, 6, 300).tolist())
    moved = drift.watch(reference, draw.beta(3, 5, 300).tolist())
    assert not same.drifted
    assert moved.drifted
    assert moved.median is not None
    assert moved.median > (same.median or 0)
    few = drift.watch(reference, draw.beta(3, 5, 99).tolist())
    assert few.psi is None
    assert not few.drifted


def test_the_stability_index_is_the_sum_over_ten_parts() -> None:
    reference = [number / 10 for number in range(11)]
    # 30 % of the week in the highest part, the rest even over the nine others.
    scores = [0.95] * 30 + [0.05 + 0.1 * (n % 9) for n in range(63)] + [0.05] * 7
    shares = np.array([14, 7, 7, 7, 7, 7, 7, 7, 7, 30]) / 100
    expected = float(((shares - 0.1) * np.log(shares / 0.1)).sum())
    assert drift.stability_index(reference, scores) == pytest.approx(expected)
    # Deciles that coincide are one part: a reference of two values, met exactly, has not moved.
    assert drift.stability_index([0.0] * 6 + [1.0] * 5, [0.0] * 60 + [1.0] * 40) < 0.2


def test_a_reference_of_one_value_is_left_by_any_other() -> None:
    assert drift.stability_index([0.5] * 11, [0.5] * 100) < 1e-6
    assert drift.stability_index([0.5] * 11, [0.9] * 100) > 1
