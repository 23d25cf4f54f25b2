"""A small run of the suite, and what is made of its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from watermark import embedding
from watermark.bench import summary
from watermark.bench.attacks import chosen
from watermark.bench.corpus import Picture
from watermark.bench.suite import Row, aimed_at, bench_keys, run_parallel, run_picture, run_pictures

PICTURE = Picture("small", "landscape", "tune", shape=(420, 330))
ATTACKS = chosen(["none", "jpeg_75", "scale_2_kept"])


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(run_pictures([PICTURE], ATTACKS, effort="full"))


def test_easy_attacks_are_read_back_in_both_modes(rows):
    assert len(rows) == 6
    assert {(row.mode, row.attack) for row in rows} == {(m, a.name) for m in ("default", "durable") for a in ATTACKS}
    assert {row.outcome for row in rows} == {"read"}
    assert all(row.content and row.correlation > 0.9 for row in rows)
    assert all(row.psnr > 41 and 0.9 < row.ssim < 1 and row.read_ms > 0 for row in rows)


def test_the_same_seed_gives_the_same_rows_by_another_way(rows):
    again = [row for part in run_parallel([PICTURE], ATTACKS, effort="full", jobs=1) for row in part]
    assert [replace(row, read_ms=0) for row in again] == [replace(row, read_ms=0) for row in rows]


def test_an_unmarked_key_is_not_read(rows):
    keys = bench_keys(4)
    found = list(run_picture(PICTURE, PICTURE.pixels(), ATTACKS[:1], ["default"], keys[:1], effort="fast"))
    assert found[0].outcome == "read"
    assert found[0].spent == "fast"


def test_a_picture_that_cannot_carry_a_mark_gives_no_rows():
    black = np.zeros((200, 200, 3), np.uint8)
    assert list(run_picture(PICTURE, black, ATTACKS, ["default"], bench_keys())) == []


def test_another_fidelity_can_be_aimed_at_and_is_put_back():
    before = dict(embedding.TARGET_DB)
    with aimed_at(48.0):
        (row,) = run_picture(PICTURE, PICTURE.pixels(), ATTACKS[:1], ["durable"], bench_keys(), effort="fast")
    assert row.psnr == pytest.approx(48.0, abs=0.8)
    assert before == embedding.TARGET_DB


def made(attack: str, outcome: str, **values) -> Row:
    group = next(one.group for one in chosen([attack]))
    row = Row("a", "photo", "default", attack, group, "none", None, None, 100.0, 44.6, 0.994, None, None)
    if outcome == "read":
        row = replace(row, outcome="read", spent="full", score=12.0, content=True, correlation=0.99)
    return replace(row, outcome=outcome, **values)


def test_rates_count_reads_wrong_ids_and_content():
    rows = [
        made("jpeg_50", "read"),
        made("jpeg_50", "none"),
        made("jpeg_50", "wrong"),
        made("jpeg_50", "read", content=False),
    ]
    found = summary.rates(rows, "attack")["jpeg_50"]["default"]
    assert (found.hits, found.tries, found.wrong, found.ours) == (2, 4, 1, 1)
    assert found.percent == 50
    assert found.content_percent == 50


def test_the_table_flags_what_is_below_its_goal_and_shouts_at_a_wrong_id():
    table = summary.table([made("jpeg_50", "none")] * 8 + [made("jpeg_75", "wrong"), made("none", "read")])
    lines = {line.split()[1]: line for line in table.splitlines() if line.startswith(("codec", "valuemetric"))}
    assert "!" in lines["jpeg_50"]
    assert "1 WRONG" in lines["jpeg_75"]
    assert "!" not in lines["none"]
    assert "?" not in lines["none"]


def test_nothing_to_tell_is_told():
    assert "nothing was measured" in summary.table([])


def test_the_table_flags_a_picture_below_the_least_fidelity_and_content_judged_strange():
    rows = [made("jpeg_50", "read", content=False, psnr=43.1, ssim=0.99), made("jpeg_50", "read", psnr=43.1, ssim=0.99)]
    table = summary.table(rows)
    assert "PSNR 43.10 dB ! (least 43.10 !), RGB-SSIM 0.9900 !" in table
    assert " 50.0!" in next(line for line in table.splitlines() if "jpeg_50" in line)
