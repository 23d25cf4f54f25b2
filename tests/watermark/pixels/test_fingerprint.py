"""The perceptual hash against its reference's values, and the comparison that unmasks a copied mark."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import fingerprint, image, pdq
from watermark.embedding import canonical_size
from watermark.fingerprint import Fingerprint
from watermark.geometry import Geometry
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
    value, measured = pdq.hash_rgb(picture(seed, width, height, cells))
    assert value.hex() == expected
    assert measured == quality


def test_a_picture_below_five_pixels_hashes_to_zeros():
    assert pdq.hash_rgb(np.zeros((4, 9, 3), np.uint8)) == (bytes(32), 0)


def test_half_of_the_bits_are_set():
    value, _ = pdq.hash_rgb(picture(1, 300, 200, 9))
    assert int.from_bytes(value, "big").bit_count() == 128


def test_mirroring_turns_the_odd_columns_of_the_transform():
    base = picture(3, 256, 256, 12)
    first, second = (int.from_bytes(pdq.hash_rgb(one)[0], "big") for one in (base, base[:, ::-1].copy()))
    # Bit 16 i + j is row i, column j; the DCT of odd order j + 1 = 1, 3, ... changes its sign.
    bits = [(first >> k & 1, second >> k & 1, k % 2) for k in range(256)]
    turned = sum(a != b for a, b, odd in bits if odd == 0)
    kept = sum(a == b for a, b, odd in bits if odd == 1)
    assert turned >= 100
    assert kept >= 100


def test_a_recompressed_picture_stays_near(large, recode):
    near = pdq.distance(pdq.hash_rgb(large)[0], pdq.hash_rgb(recode(large, ".jpg", 50))[0])
    far = pdq.distance(pdq.hash_rgb(large)[0], pdq.hash_rgb(picture(1, 300, 200, 9))[0])
    assert near <= 20
    assert far >= 90


def test_a_large_picture_is_hashed_at_a_smaller_size(large, astronaut):
    full, small = pdq.hash_rgb(large)[0], pdq.hash_picture(large)[0]
    assert full != small
    assert pdq.distance(full, small) <= 31
    assert pdq.hash_picture(astronaut) == pdq.hash_rgb(astronaut)


def test_a_fingerprint_survives_its_record(astronaut, large):
    for rgb, cells in ((astronaut, (64, 64)), (large, (64, 75)), (large[:300], (128, 64))):
        taken = fingerprint.take(rgb)
        assert taken.cells[1] <= cells[1]
        assert taken.cells[0] * taken.cells[1] <= 8500
        record = json.dumps(taken.to_json())
        assert len(record) < 12_000
        assert Fingerprint.from_json(json.loads(record)) == taken


def test_a_long_strip_is_compared_too(large):
    strip = np.ascontiguousarray(np.hstack([large[:120], large[600:720]]))
    taken = fingerprint.take(strip)
    assert len(taken.grid) <= 8500
    assert fingerprint.compare(taken, strip, None).judged == "ours"
    assert fingerprint.compare(taken, np.ascontiguousarray(strip[::-1]), None).judged == "differs"


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["v", "pdq", "quality", "grid", "cells", "size"]),
    junk=st.one_of(st.none(), st.text(max_size=8), st.just([1, 2]), st.just([0]), st.just({}), st.floats(-9, 9)),
)
def test_a_record_that_is_none_is_refused(name, junk):
    record = fingerprint.take(picture(1, 96, 96, 4)).to_json()
    if name == "quality" and not isinstance(junk, list | dict | None):
        return
    with pytest.raises(MarkError) as caught:
        Fingerprint.from_json({**record, name: junk})
    assert caught.value.code == "fingerprint"


def test_a_record_of_the_first_version_is_refused():
    for record in ({"v": 1, "pdq": "00" * 32, "quality": 50, "grid": "AA==", "size": [64, 64]}, {}):
        with pytest.raises(MarkError) as caught:
            Fingerprint.from_json(record)
        assert caught.value.code == "fingerprint"


def noisy(rgb, sigma):
    grain = np.random.Generator(np.random.PCG64(4)).normal(0, sigma, rgb.shape)
    return np.clip(rgb + grain, 0, 255).astype(np.uint8)


def per_channel(change):
    return lambda p: np.dstack([change(np.ascontiguousarray(p[..., i])) for i in range(3)])


EDITS = {
    "dark": lambda p: (p * 0.25).astype(np.uint8),
    "bright": lambda p: np.clip(p * 1.5, 0, 255).astype(np.uint8),
    "low contrast": lambda p: ((p - 128.0) * 0.4 + 128).astype(np.uint8),
    "gamma": lambda p: (255 * (p / 255.0) ** 2.2).astype(np.uint8),
    "grey": lambda p: np.repeat(p[..., 1:2], 3, 2),
    "equalised": per_channel(cv2.equalizeHist),
    "local contrast": per_channel(lambda plane: cv2.createCLAHE(4, (8, 8)).apply(plane)),
    "blur": lambda p: cv2.GaussianBlur(p, (0, 0), 3),
    "median": lambda p: cv2.medianBlur(p, 7),
    "noise": lambda p: noisy(p, 25),
    "small": lambda p: cv2.resize(p, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA),
    "aspect": lambda p: cv2.resize(p, None, fx=0.8, fy=0.55, interpolation=cv2.INTER_AREA),
}


@pytest.fixture(scope="module")
def host(astronaut):
    """Another picture of the size of `large`."""
    return cv2.resize(astronaut, (1200, 1406), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_copy_is_ours_and_another_picture_is_not(large, host, recode, name):
    edited, other = (recode(np.ascontiguousarray(EDITS[name](one)), ".jpg", 60) for one in (large, host))
    found = fingerprint.compare(fingerprint.take(large), edited, None)
    assert found.judged == "ours"
    assert found.share > 0.8
    assert found.evidence > 5 * fingerprint.OURS_FROM
    unlike = fingerprint.compare(fingerprint.take(large), other, None)
    assert unlike.judged == "differs"
    assert unlike.share < 0.1


def test_a_recompressed_copy_agrees_everywhere(large, recode):
    found = fingerprint.compare(fingerprint.take(large), recode(large, ".jpg", 40), None)
    assert found.pdq_distance is not None
    assert found.pdq_distance <= 20
    assert found.grid_correlation > 0.9
    assert "x" not in "".join(found.regions)


def seen(rgb, to_picture, size, period, *, inverted=False):
    """`rgb` and the geometry a reader would give it, a little off as readings are.

    `to_picture`: float64 [3, 3], pixel centres of `rgb` to those of the marked picture of `size` (width, height).
    """
    scale = np.array(canonical_size(*size)) / size
    frame = np.array([[scale[0], 0, scale[0] / 2 - 0.5], [0, scale[1], scale[1] / 2 - 0.5], [0, 0, 1]])
    full = frame @ to_picture
    shift = (full[:2, 2] + 0.5) % period
    (a, b), (c, d) = 1.001 * full[:2, :2]
    return np.ascontiguousarray(rgb), Geometry(a, b, c, d, *shift, period=period, inverted=inverted)


def window(rgb, left, top, width, height):
    """A part of a picture and its map to the whole."""
    return rgb[top : top + height, left : left + width], np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])


def random_part(generator, rgb, area):
    height, width = (int(side * np.sqrt(area)) for side in rgb.shape[:2])
    left, top = (
        int(generator.integers(0, full - part)) for full, part in zip(rgb.shape[1::-1], (width, height), strict=True)
    )
    return window(rgb, left, top, width, height)


@pytest.mark.parametrize(("area", "told"), [(0.5, 1.0), (0.25, 1.0), (0.1, 0.9), (0.05, 0.75)])
def test_parts_are_ours_wherever_they_were_cut_and_foreign_parts_never_are(large, host, recode, area, told):
    generator = np.random.Generator(np.random.PCG64(int(1000 * area)))
    recorded, size = fingerprint.take(large), large.shape[1::-1]
    ours, theirs = [], []
    for _ in range(16):
        period = 2 * int(generator.integers(56, 73))
        for picture_of, answers in ((large, ours), (host, theirs)):
            part, to_picture = random_part(generator, picture_of, area)
            rgb, geometry = seen(recode(np.ascontiguousarray(part), ".jpg", 50), to_picture, size, period)
            answers.append(fingerprint.compare(recorded, rgb, geometry).judged)
    assert ours.count("ours") >= told * len(ours)
    assert "differs" not in ours
    assert "ours" not in theirs


@pytest.mark.parametrize("name", ["mirror", "quarter turn", "turn", "shear"])
def test_a_turned_or_bent_copy_is_ours(large, host, name):
    height, width = large.shape[:2]
    to_picture = {
        "mirror": np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1.0]]),
        "quarter turn": np.array([[0, -1, width - 1], [1, 0, 0], [0, 0, 1.0]]),
        "turn": np.array([[0.8, -0.6, 500], [0.6, 0.8, -300], [0, 0, 1]]),
        "shear": np.array([[1, 0.1, -70], [-0.05, 1.1, 0], [0, 0, 1]]),
    }[name]
    for rgb, judged in ((large, "ours"), (host, "differs")):
        turned = cv2.warpAffine(rgb, to_picture[:2], (1200, 1200), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        found = fingerprint.compare(fingerprint.take(large), *seen(turned, to_picture, (width, height), 130))
        assert found.judged == judged


def test_a_perspective_copy_is_ours_by_its_middle(large):
    height, width = large.shape[:2]
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    moved = corners + np.float32([[0.06, 0.02], [-0.01, 0.07], [-0.05, -0.02], [0.03, -0.06]]) * [width, height]
    to_bent = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    bent = cv2.warpPerspective(large, to_bent, (width, height))
    back = np.linalg.inv(to_bent)
    middle = back @ [width / 2, height / 2, 1]
    affine = (back[:2] - np.outer(middle[:2] / middle[2], back[2])) / middle[2]
    affine[:, 2] = middle[:2] / middle[2] - affine[:, :2] @ [width / 2, height / 2]
    rgb, geometry = seen(bent, np.vstack([affine, [0, 0, 1]]), (width, height), 124)
    assert fingerprint.compare(fingerprint.take(large), rgb, geometry).judged == "ours"


def test_a_negative_is_ours_when_the_mark_says_it_is_one(large):
    recorded = fingerprint.take(large)
    plain, inverted = (
        seen(255 - large, np.eye(3), large.shape[1::-1], 116, inverted=inverted) for inverted in (False, True)
    )
    assert fingerprint.compare(recorded, *inverted).judged == "ours"
    assert fingerprint.compare(recorded, *plain).judged == "differs"


def test_a_copy_inside_a_screenshot_is_ours(large, host):
    for shown, judged in ((large, "ours"), (host, "differs")):
        screen = np.full((1900, 1500, 3), 30, np.uint8)
        screen[300:1706, 120:1320] = shown
        cv2.putText(screen, "a comment below", (120, 1800), 0, 2, (200, 200, 200), 3)
        to_picture = np.array([[1, 0, -120], [0, 1, -300], [0, 0, 1.0]])
        found = fingerprint.compare(fingerprint.take(large), *seen(screen, to_picture, large.shape[1::-1], 140))
        assert found.judged == judged


@pytest.mark.parametrize("filling", ["flat", "other"])
def test_where_two_fifths_were_replaced_the_map_shows_it(large, host, filling):
    covered = large.copy()
    covered[:, :480] = 90 if filling == "flat" else host[:, :480]
    found = fingerprint.compare(fingerprint.take(large), covered, None)
    assert found.judged == "ours"
    columns = len(found.regions[0])
    left = "".join(row[: columns * 2 // 5 - 1] for row in found.regions)
    right = "".join(row[columns * 2 // 5 + 1 :] for row in found.regions)
    assert left.count("=") < 0.05 * len(left)
    assert left.count("x") > 0.5 * len(left)
    assert right.count("x") < 0.05 * len(right)


def test_a_face_replaced_afterwards_shows_in_the_map(large, host):
    """Still ours, and the windows over the face say that it is another one."""
    edited = large.copy()
    edited[350:800, 400:800] = host[100:550, 300:700]
    found = fingerprint.compare(fingerprint.take(large), edited, None)
    assert found.judged == "ours"
    face = "".join(row[6:10] for row in found.regions[6:9])
    rest = "".join(found.regions[12:])
    assert "=" not in face
    assert "x" not in rest


def test_what_is_not_in_the_picture_is_absent_from_the_map(large):
    part, to_picture = window(large, 0, 700, 1200, 706)
    found = fingerprint.compare(fingerprint.take(large), *seen(part, to_picture, large.shape[1::-1], 112))
    half = len(found.regions) // 2
    assert set("".join(found.regions[: half - 1])) == {" "}
    assert " " not in "".join(found.regions[half + 1 :])


def aligned(host, target):
    """The forger's best: `host` moved and stretched until it lies on `target` as well as an affine map can."""
    small = [cv2.GaussianBlur(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY)[::8, ::8], (0, 0), 2) for one in (target, host)]
    _, found = cv2.findTransformECC(*small, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, (3, 80, 1e-4))
    found[:, 2] *= 8
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(host, found, host.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def test_a_portrait_laid_over_another_as_well_as_possible_differs(large, host):
    forged = aligned(host, large)
    recorded, generator = fingerprint.take(large), np.random.Generator(np.random.PCG64(2))
    assert fingerprint.compare(recorded, forged, None).judged == "differs"
    for area in (0.25, 0.1, 0.05):
        for _ in range(20):
            part, to_picture = random_part(generator, forged, area)
            found = fingerprint.compare(recorded, *seen(part, to_picture, large.shape[1::-1], 128))
            assert found.judged != "ours"


def test_plain_pictures_cannot_be_told(key):
    """A wall is like a wall: the mark on both must not make them one picture."""
    first, second = (noisy(np.full((600, 800, 3), grey, np.uint8), 2) for grey in (120, 140))
    recorded = fingerprint.take(image.embed(first, ID, key, "durable"))
    for rgb in (image.embed(first, ID, key, "durable"), image.embed(second, ID, key, "durable")):
        assert fingerprint.compare(recorded, rgb, None).judged == "unknown"


def test_skies_and_vignettes_are_not_taken_for_one_another():
    y, x = np.mgrid[0:600, 0:800] / 600
    shades = [60 + 120 * y, 90 + 100 * y, 150 - 90 * ((x - 0.67) ** 2 + (y - 0.5) ** 2), 160 - 60 * (x - 0.67) ** 2]
    skies = [noisy(np.dstack([shade] * 3), 1) for shade in shades]
    for one in skies:
        for other in skies:
            assert fingerprint.compare(fingerprint.take(one), other, None).judged != "ours"


def test_soft_shapes_are_told_apart():
    soft, other = (
        np.dstack(
            [100 + 6 * cv2.resize(np.random.default_rng(seed).normal(0, 1, (9, 12)), (800, 600), interpolation=2)] * 3
        )
        for seed in (1, 2)
    )
    recorded = fingerprint.take(soft.astype(np.uint8))
    assert fingerprint.compare(recorded, noisy(soft, 3), None).judged == "ours"
    assert fingerprint.compare(recorded, noisy(other, 3), None).judged == "differs"


def test_a_picture_on_a_record_of_a_plain_one_differs(host):
    recorded = fingerprint.take(np.full((1406, 1200, 3), 128, np.uint8))
    assert fingerprint.compare(recorded, host, None).judged == "differs"


@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_a_geometry_that_cannot_be_is_told_as_unknown(large, scale):
    wild = Geometry(scale, 0.0, 0.0, scale, 0.0, 0.0, period=128)
    found = fingerprint.compare(fingerprint.take(large), large, wild)
    assert found.judged == "unknown"
    assert set("".join(found.regions)) == {" "}


def test_several_records_are_compared_as_one_by_one(large, astronaut, host):
    records = [fingerprint.take(one) for one in (large, astronaut, host)]
    assert fingerprint.compare_all(records, large, None) == [fingerprint.compare(one, large, None) for one in records]


@pytest.mark.parametrize("name", ["crop", "mirror", "quarter turn", "strip"])
def test_a_part_is_ours_in_the_frame_its_reading_gives(large, astronaut, key, name):
    marked = image.embed(large, ID, key)
    part = {
        "crop": lambda p: p[301:1001, 217:917].copy(),
        "mirror": lambda p: p[:, ::-1].copy(),
        "quarter turn": lambda p: np.rot90(p).copy(),
        "strip": lambda p: p[:1200].copy(),
    }[name](marked)
    reading = image.read(part, [key])
    found = fingerprint.compare(fingerprint.take(large), part, reading.geometry)
    assert found.judged == "ours"
    assert found.share > 0.95
    assert fingerprint.compare(fingerprint.take(astronaut), part, reading.geometry).judged == "differs"


def test_a_mark_copied_onto_another_picture_is_unmasked(large, host, key):
    """The copy attack: what marking changed in one picture, added to another, reads as the first one's id."""
    residual = image.embed(large, ID, key).astype(np.int64) - large
    forged = np.clip(host + residual, 0, 255).astype(np.uint8)
    for rgb in (forged, np.ascontiguousarray(forged[200:1100, 150:950])):
        reading = image.read(rgb, [key])
        assert reading is not None
        assert reading.mark_id == ID
        assert fingerprint.compare(fingerprint.take(large), rgb, reading.geometry).judged == "differs"


def test_edges_lifted_with_the_mark_do_not_make_another_picture_ours(large, key):
    """A high pass takes the donor's edges along: in detail the forgery agrees, in light and shade it does not."""
    marked = image.embed(large, b"lifted!!", key, "durable").astype(np.float32)
    lifted = marked - cv2.GaussianBlur(marked, (0, 0), 3)
    height, width = large.shape[:2]
    down, across = np.indices((height, width), np.float32)
    smooth = (60 + 120 * across / width - 40 * np.sin(3 * down / height))[..., None].repeat(3, axis=2)
    forged = np.clip(smooth + lifted, 0, 255).astype(np.uint8)
    reading = image.read(forged, [key])
    assert reading is not None
    assert reading.mark_id == b"lifted!!"
    assert fingerprint.compare(fingerprint.take(marked.astype(np.uint8)), forged, reading.geometry).judged != "ours"
