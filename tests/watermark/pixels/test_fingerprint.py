"""The perceptual hash against its reference's values, and the comparison that unmasks a copied mark."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import fingerprint, image, pdq
from watermark.fingerprint import Fingerprint
from watermark.mark_errors import MarkError

ID = b"print id"


def picture(seed, width, height, cells):
    """A smooth random picture; uint8 [height, width, 3], the same on every machine (integer arithmetic only)."""
    generator = np.random.Generator(np.random.PCG64(seed))
    rough = generator.integers(0, 256, (cells, cells, 3)).astype(np.int64)
    rows, columns = np.arange(height) * (cells - 1) * 256 // height, np.arange(width) * (cells - 1) * 256 // width
    (y, fy), (x, fx) = np.divmod(rows, 256), np.divmod(columns, 256)
    fy, fx = fy[:, None, None], fx[None, :, None]
    top = rough[y][:, x] * (256 - fx) + rough[y][:, x + 1] * fx
    bottom = rough[y + 1][:, x] * (256 - fx) + rough[y + 1][:, x + 1] * fx
    return np.ascontiguousarray((top * (256 - fy) + bottom * fy) >> 16, np.uint8)


# Made with the reference implementation (facebook/ThreatExchange pdq/cpp, by way of the pdqhash 0.2.8 binding).
REFERENCE = [
    (1, 512, 512, 9, "20242d5a03e164170ff843e1fc1f1bec03e11becfc1f43e1affa60074be9ad5a", 100),
    (2, 640, 360, 12, "20c68a3f1f1460fce4ef8a3fe4efe0fe1f148a3f20c65542f1fcaeb064c060d3", 100),
    (3, 401, 733, 7, "3e227e53c9dc84d8efdfbcd8c1dc3e532a225f2708705f272a223e53c1dc80d8", 100),
    (4, 64, 64, 20, "e4e9507c13a19bdab67f37908a99ecc53736278b9888f1ed8e4e4a5320c705f8", 100),
    (5, 37, 91, 6, "0fc3f53d8dc367391b441d437fa1ddd39b446e390383f73d01c36639194409c7", 89),
    (6, 1920, 1080, 40, "40f9a8268006cac5d386a7cad5fffec72a93977d3630b9d3932227fbc911110e", 100),
    (7, 128, 128, 3, "45a26f150c5d481d8f000e9df15dd1552606255dc1dd455593bad5ddd5d55dd5", 11),
]


@pytest.mark.parametrize(("seed", "width", "height", "cells", "expected", "quality"), REFERENCE)
def test_pdq_equals_its_reference_bit_for_bit(seed, width, height, cells, expected, quality):
    value, measured = fingerprint.pdq(picture(seed, width, height, cells))
    assert value.hex() == expected
    assert measured == quality


def test_a_picture_below_five_pixels_hashes_to_zeros():
    assert fingerprint.pdq(np.zeros((4, 9, 3), np.uint8)) == (bytes(32), 0)


def test_half_of_the_bits_are_set():
    value, _ = fingerprint.pdq(picture(1, 300, 200, 9))
    assert int.from_bytes(value, "big").bit_count() == 128


def test_mirroring_turns_the_odd_columns_of_the_transform():
    base = picture(3, 256, 256, 12)
    first, second = (int.from_bytes(fingerprint.pdq(one)[0], "big") for one in (base, base[:, ::-1].copy()))
    # Bit 16 i + j is row i, column j; the DCT of odd order j + 1 = 1, 3, ... changes its sign.
    bits = [(first >> k & 1, second >> k & 1, k % 2) for k in range(256)]
    turned = sum(a != b for a, b, odd in bits if odd == 0)
    kept = sum(a == b for a, b, odd in bits if odd == 1)
    assert turned >= 100
    assert kept >= 100


def test_a_recompressed_picture_stays_near(large, recode):
    near = pdq.distance(fingerprint.pdq(large)[0], fingerprint.pdq(recode(large, ".jpg", 50))[0])
    far = pdq.distance(fingerprint.pdq(large)[0], fingerprint.pdq(picture(1, 300, 200, 9))[0])
    assert near <= 20
    assert far >= 90


def test_a_fingerprint_survives_its_record(astronaut):
    taken = fingerprint.take(astronaut)
    assert taken.size == (512, 512)
    assert len(taken.grid) == 1024
    assert Fingerprint.from_json(taken.to_json()) == taken


@settings(max_examples=40, deadline=None)
@given(
    junk=st.one_of(
        st.just({}),
        st.fixed_dictionaries(
            {
                "v": st.integers(),
                "pdq": st.text(max_size=8),
                "quality": st.none(),
                "grid": st.text(max_size=8),
                "size": st.just([1, 2]),
            }
        ),
        st.fixed_dictionaries(
            {
                "v": st.just(1),
                "pdq": st.just("00" * 31),
                "quality": st.just(1),
                "grid": st.just(""),
                "size": st.just([0]),
            }
        ),
    )
)
def test_a_record_that_is_none_is_refused(junk):
    with pytest.raises(MarkError) as caught:
        Fingerprint.from_json(junk)
    assert caught.value.code == "fingerprint"


def test_an_edited_copy_of_the_picture_matches(large, recode):
    recorded = fingerprint.take(large)
    for edited in (large, recode(large, ".jpg", 40), cv2.resize(large, (300, 352)), (large * 0.6).astype(np.uint8)):
        found = fingerprint.compare(recorded, edited, None)
        assert found.matches
        assert found.pdq_distance is not None
        assert found.pdq_distance <= 31
        assert found.grid_correlation > 0.98


def test_another_picture_does_not_match(large, astronaut, grace):
    assert not fingerprint.compare(fingerprint.take(astronaut), grace, None).matches
    assert not fingerprint.compare(fingerprint.take(astronaut), large, None).matches
    assert not fingerprint.compare(fingerprint.take(astronaut), np.full((99, 99, 3), 128, np.uint8), None).matches


@pytest.mark.parametrize("name", ["crop", "mirror", "quarter turn", "strip"])
def test_a_part_matches_in_the_frame_its_reading_gives(large, astronaut, key, name):
    marked = image.embed(large, ID, key)
    part = {
        "crop": lambda p: p[301:1001, 217:917].copy(),
        "mirror": lambda p: p[:, ::-1].copy(),
        "quarter turn": lambda p: np.rot90(p).copy(),
        "strip": lambda p: p[:1200].copy(),
    }[name](marked)
    reading = image.read(part, [key])
    found = fingerprint.compare(fingerprint.take(large), part, reading.geometry)
    assert found.matches
    assert found.grid_correlation > 0.97
    assert not fingerprint.compare(fingerprint.take(astronaut), part, reading.geometry).matches


def test_a_mark_copied_onto_another_picture_is_unmasked(large, astronaut, key):
    """The copy attack: what marking changed in one picture, added to another, reads as the first one's id."""
    host = cv2.resize(astronaut, (1200, 1406), interpolation=cv2.INTER_CUBIC)
    residual = image.embed(large, ID, key).astype(np.int64) - large
    forged = np.clip(host + residual, 0, 255).astype(np.uint8)
    reading = image.read(forged, [key])
    assert reading is not None
    assert reading.mark_id == ID
    assert not fingerprint.compare(fingerprint.take(large), forged, reading.geometry).matches
