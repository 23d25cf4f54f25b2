"""Laws of the picture mark: what was embedded is read, or was refused by type before; never is another id read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watermark import image, pattern
from watermark.keys import MarkKey
from watermark.mark_errors import MarkError

ID = b"\x00prop\xff\x80\x7f"
MOST_PIXELS = 400_000
quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ids = st.binary(min_size=8, max_size=8)
keys = st.binary(min_size=32, max_size=32).map(lambda secret: MarkKey("any", secret))
sides = st.tuples(st.integers(96, 1200), st.integers(96, 1200)).filter(lambda size: size[0] * size[1] <= MOST_PIXELS)


@st.composite
def pictures(draw, kinds=("blobs", "flat", "stripes", "two colours")):
    """Pictures of these kinds, in colour or grey, of any size a mark fits into."""
    width, height = draw(sides)
    kind = draw(st.sampled_from(kinds))
    generator = np.random.Generator(np.random.PCG64(draw(st.integers(0, 10_000))))
    low, high = sorted(draw(st.tuples(st.integers(0, 255), st.integers(0, 255))))
    if kind == "flat":
        rgb = np.full((height, width, 3), generator.integers(low, high + 1, 3), np.uint8)
    elif kind == "stripes":
        wave = np.sin(np.arange(width) / generator.uniform(0.7, 40))
        rgb = np.broadcast_to(low + (high - low) * (wave[None, :, None] / 2 + 0.5), (height, width, 3)).astype(np.uint8)
    elif kind == "two colours":
        colours = generator.integers(0, 2, (2, 3)) * 255
        rgb = colours[(np.indices((height, width)).sum(0) // 60) % 2].astype(np.uint8)
    else:
        cells = (height, width) if kind == "noise" else (9, 9)
        rough = generator.integers(low, high + 1, (*cells, 3)).astype(np.uint8)
        rgb = np.asarray(cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    if draw(st.booleans()):
        rgb = rgb[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray(rgb)


@quick
@given(rgb=pictures(), mark_id=ids, key=keys)
def test_what_is_embedded_is_read_or_was_refused_before(rgb, mark_id, key):
    reason = image.markable(rgb)
    reading = image.read(image.embed(rgb, mark_id, key), [key])
    if reason is None:
        assert reading is not None
    if reading is not None:
        assert (reading.mark_id, reading.key) == (mark_id, key.name)


@quick
@given(
    rgb=pictures(("blobs", "noise", "two colours")),
    mark_id=ids,
    key=keys,
    quality=st.integers(10, 95),
    data=st.data(),
)
def test_whatever_happens_to_a_picture_no_other_id_is_read(rgb, mark_id, key, quality, data):
    marked = image.embed(rgb, mark_id, key)
    height, width = marked.shape[:2]
    right, bottom = data.draw(st.integers(width // 3, width)), data.draw(st.integers(height // 3, height))
    _, coded = cv2.imencode(".jpg", marked[:bottom, :right], [cv2.IMWRITE_JPEG_QUALITY, quality])
    reading = image.read(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8), [key], "fast")
    assert reading is None or reading.mark_id == mark_id


@quick
@given(width=st.integers(1, 300), height=st.integers(1, 300), mark_id=ids)
def test_a_size_is_refused_exactly_when_markable_says_so(key, width, height, mark_id):
    rgb = np.full((height, width, 3), 128, np.uint8)
    reason = image.markable(rgb)
    if reason is None:
        assert image.embed(rgb, mark_id, key).shape == rgb.shape
        return
    with pytest.raises(MarkError) as caught:
        image.embed(rgb, mark_id, key)
    assert caught.value.code == reason


@quick
@given(
    shape=st.lists(st.integers(0, 120), min_size=0, max_size=4),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int16, np.float32, np.float64, bool]),
)
def test_arrays_that_are_no_rgb_pictures_are_refused_by_type(key, shape, dtype):
    array = np.zeros(shape, dtype)
    if array.ndim == 3 and array.shape[2] == 3 and dtype == np.uint8 and array.size:
        return
    for call in (lambda: image.embed(array, ID, key), lambda: image.markable(array), lambda: image.read(array, [key])):
        with pytest.raises(MarkError) as caught:
            call()
        assert caught.value.code == "picture_format"


@given(mark_id=st.binary(max_size=20).filter(lambda value: len(value) != 8))
def test_an_id_of_another_length_is_refused_by_type(key, mark_id):
    with pytest.raises(MarkError) as caught:
        image.embed(np.full((96, 96, 3), 128, np.uint8), mark_id, key)
    assert caught.value.code == "mark_id"


@pytest.mark.parametrize("height", [1, 2, 95])
def test_a_picture_of_too_few_rows_is_refused_by_type(key, height):
    strip = np.full((height, 900, 3), 128, np.uint8)
    assert image.markable(strip) in {"too_small", "too_long"}
    with pytest.raises(MarkError) as caught:
        image.embed(strip, ID, key)
    assert caught.value.code in {"too_small", "too_long"}


def test_pure_black_and_pure_white_are_called_too_flat():
    for level in (0, 255):
        assert image.markable(np.full((300, 400, 3), level, np.uint8)) == "too_flat"
    assert image.markable(np.full((300, 400, 3), 128, np.uint8)) is None


@pytest.mark.parametrize("size", [(96, 96), (97, 1031), (1900, 96), (501, 333), (1023, 769)])
@pytest.mark.parametrize("colour", [True, False])
def test_squares_strips_and_odd_sizes_of_photos_are_read(grace, key, size, colour):
    rgb = cv2.resize(grace, size, interpolation=cv2.INTER_AREA)
    if not colour:
        rgb = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert image.markable(rgb) is None
    # Of 96 pixels square one colour picture in seventy needs the slower look.
    effort = "deep" if colour and size == (96, 96) else "full"
    assert image.read(image.embed(rgb, ID, key), [key], effort).mark_id == ID


def test_a_view_with_strides_is_marked_like_its_copy(grace, key):
    view = grace[::-1, ::-1]
    assert np.array_equal(image.embed(view, ID, key), image.embed(view.copy(), ID, key))


@pytest.mark.soak
def test_a_picture_of_50_megapixels_is_marked_and_read(grace, key, psnr):
    large = cv2.resize(grace, (7072, 7072), interpolation=cv2.INTER_LINEAR)
    marked = image.embed_pattern(large, pattern.derive(ID, key))
    assert psnr(large[::7, ::7], marked[::7, ::7]) >= 44.0
    assert image.read(marked, [key], "fast").mark_id == ID
