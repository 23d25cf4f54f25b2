"""A row says plainly whether what is required was reached; what was not measured never counts as reached."""

from __future__ import annotations

import json

import pytest

from worker.bench import plots
from worker.bench.report import Report, Row, Table, number


@pytest.mark.parametrize(
    ("measured", "more", "verdict"),
    [
        (9.9, False, "goal reached"),
        (10.0, False, "goal reached"),
        (15.0, False, "reached"),
        (15.01, False, "not reached"),
        (None, False, "not measured"),
        (float("nan"), False, "not measured"),
        (float("inf"), False, "not measured"),
        (15.0, True, "goal reached"),
        (10.0, True, "not reached"),
    ],
)
def test_a_row_is_held_against_its_bounds(measured, more, verdict):
    bounds = {"required": 12.0, "goal": 14.0} if more else {"required": 15.0, "goal": 10.0}
    row = Row("x", measured, "ms", more_is_better=more, **bounds)
    assert row.verdict == verdict
    assert row.cells()[-1] == verdict


def test_a_row_without_a_bound_is_shown_and_not_judged():
    row = Row("x", 3.0, "ms")
    assert row.verdict == ""
    assert row.cells() == ("x", "3 ms", "", "", "")


def test_a_report_tells_the_same_in_words_and_in_json():
    report = Report("pipeline")
    report.rows = [Row("host", 46.0, "ms", required=45.0, goal=36.0, note="twice"), Row("photo", None, required=1.3)]
    report.tables = [Table("parts", ("part", "ms"), (("decode", 9.5), ("mark", None)))]
    words = report.words()
    assert "≤ 45" in words
    assert [line.split()[-2:] for line in words.splitlines() if line.startswith(("host ", "photo "))] == [
        ["not", "reached"],
        ["not", "measured"],
    ]
    assert "host: twice" in words
    told = json.loads(json.dumps(report.to_dict()))
    assert [row["verdict"] for row in told["rows"]] == ["not reached", "not measured"]
    assert told["place"]["cores"] >= 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (3.0, "3"), (0.12345, "0.123"), (3.14159, "3.14"), (314.15, "314.1"), (31415.9, "31416")],
)
def test_numbers_have_as_many_digits_as_are_worth_reading(value, text):
    assert number(value) == text


def test_bars_are_drawn_for_series_that_share_only_some_names(tmp_path):
    pytest.importorskip("matplotlib")
    plots.bars("t", "ms", {"one": {"decode": 1.0, "swap": 2.0}, "other": {"swap": 3.0}}, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
