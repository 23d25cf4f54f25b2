"""Where the pictures of the bench come from."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from watermark.bench.attacks import seeded
from watermark.bench.corpus import MOST_AREA, corpus, drawn, from_files, packaged, role_of
from watermark.bench.scenes import SCENES
from watermark.image import markable


@pytest.mark.parametrize("kind", SCENES)
def test_a_scene_is_a_markable_picture_that_follows_from_its_seed(kind):
    first, again = (SCENES[kind]((330, 260), seeded(4, kind)) for _ in range(2))
    assert first.shape == (260, 330, 3)
    assert first.dtype == np.uint8
    assert markable(first) is None
    np.testing.assert_array_equal(first, again)
    assert (first != SCENES[kind]((330, 260), seeded(5, kind))).any()


def test_drawn_pictures_have_mixed_sizes_and_every_kind_on_both_sides_of_the_split():
    pictures = drawn()
    areas = {picture.shape[0] * picture.shape[1] for picture in pictures}
    assert min(areas) <= 0.27e6
    assert max(areas) > 1.9e6
    assert {picture.kind for picture in pictures} == set(SCENES)
    assert {picture.role for picture in pictures} == {"tune", "report"}


def test_the_split_depends_on_the_name_alone_and_keeps_both_parts_apart():
    tune, report = (corpus(role=role) for role in ("tune", "report"))
    assert {one.name for one in tune}.isdisjoint(one.name for one in report)
    assert all(role_of(one.name) == "tune" for one in tune)
    assert 0.2 < sum(role_of(f"picture {i}") == "tune" for i in range(1000)) / 1000 < 0.45


def test_the_samples_of_the_project_are_found():
    assert {"astronaut", "grace_hopper"} <= {picture.name for picture in packaged()}


def test_a_folder_gives_its_pictures_and_no_icons_or_texts(tmp_path):
    generator = np.random.Generator(np.random.PCG64(1))
    for name, side in (("large.png", 300), ("icon.png", 64)):
        Image.fromarray(generator.integers(0, 256, (side, side, 3)).astype(np.uint8)).save(tmp_path / name)
    (tmp_path / "deep").mkdir()
    Image.new("L", (400, 300), 90).save(tmp_path / "deep" / "large.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "read me.txt").write_text("hello")
    pictures = corpus([tmp_path])
    assert sorted(picture.name for picture in pictures) == ["large", "large-2"]
    assert all(picture.role == "report" and picture.pixels().shape[2] == 3 for picture in pictures)
    assert corpus([tmp_path], role="tune", limit=1)[0].role == "tune"


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        corpus([tmp_path])


def test_a_huge_file_is_brought_down(tmp_path):
    Image.new("RGB", (3000, 2000), (90, 120, 40)).save(tmp_path / "huge.png")
    height, width = from_files([tmp_path / "huge.png"])[0].pixels().shape[:2]
    assert width * height <= MOST_AREA
    assert width / height == pytest.approx(1.5, rel=0.01)


def test_a_limit_takes_pictures_of_many_kinds():
    assert len({picture.kind for picture in corpus(limit=8)}) >= 6
