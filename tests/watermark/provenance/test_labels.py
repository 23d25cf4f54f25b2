"""The visible notice: big enough, in its corner, crisp, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest

from watermark.labels import LabelError, LabelRenderer

PLACES = ["top-right", "top-left", "bottom-right", "bottom-left"]


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (640, 480), (513, 511), (3840, 2160), (200, 150)])
def test_the_letters_are_at_least_a_twentieth_of_the_short_side(size):
    label = LabelRenderer(size)
    frame = label.apply(np.zeros((size[1], size[0], 3), np.uint8))
    rows = np.flatnonzero((frame > 200).all(axis=2).any(axis=1))
    assert label.letter_height >= 0.05 * min(size)
    assert rows[-1] - rows[0] + 1 >= 0.05 * min(size) - 1  # anti-aliasing may dim one edge row
    assert label.letter_height <= 0.05 * min(size) + 12


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [(640, 360), (360, 640)])
def test_the_notice_lies_in_its_corner_and_nothing_else_changes(size, place):
    rng = np.random.default_rng(1)
    before = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    frame = before.copy()
    label = LabelRenderer(size, place=place)
    assert label.apply(frame) is frame
    left, top, right, bottom = label.box
    outside = np.ones(frame.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert np.array_equal(frame[outside], before[outside])
    assert (frame[~outside] != before[~outside]).mean() > 0.8
    assert (left + right > size[0]) == place.endswith("right")
    assert (top + bottom > size[1]) == place.startswith("bottom")


@pytest.mark.parametrize("background", [0, 90, 255])
def test_the_letters_stand_out_on_every_background(background):
    frame = LabelRenderer((800, 600)).apply(np.full((600, 800, 3), background, np.uint8))
    plate = frame[12:80, 400:790]
    assert plate.max() >= 250
    # WCAG asks 3:1 for large text; the plate keeps white paper below that luminance.
    dark = np.percentile(plate, 5) / 255
    assert (1.0 + 0.05) / (dark**2.2 + 0.05) > 3


def test_the_plate_lets_the_picture_through(astronaut):
    frame = astronaut.copy()
    label = LabelRenderer((512, 512))
    label.apply(frame)
    left, top, right, bottom = label.box
    under = astronaut[top:bottom, left:right].astype(float).mean(axis=2)
    over = frame[top:bottom, left:right].astype(float).mean(axis=2)
    plate = over < 106  # white under the plate; what is lighter is a letter or its edge
    assert np.corrcoef(under[plate], over[plate])[0, 1] > 0.9


def test_the_same_frame_is_drawn_the_same_every_time():
    label = LabelRenderer((320, 240))
    frames = [label.apply(np.full((240, 320, 3), 77, np.uint8)) for _ in range(3)]
    assert np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames[0], frames[2])


@pytest.mark.parametrize("text", ["AI MODIFIED", "MODIFIÉ PAR IA", "人工智能合成", "MIT KI VERÄNDERT\nAI合成"])
@pytest.mark.parametrize("share", [0.05, 0.08])
def test_the_letters_of_every_script_have_the_demanded_height_and_stand_in_the_middle_of_the_plate(text, share):
    label = LabelRenderer((1280, 720), text, letter_share=share)
    assert label.letter_height >= share * 720
    frame = label.apply(np.zeros((720, 1280, 3), np.uint8))
    left, top, right, bottom = label.box
    bright = frame[top:bottom, left:right].min(axis=2) > 200
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    assert abs(columns[0] - (right - left - 1 - columns[-1])) <= 0.12 * label.letter_height + 2
    accents = 0.4 * label.letter_height  # above the capitals, or below the line
    assert abs(rows[0] - (bottom - top - 1 - rows[-1])) <= accents
    assert rows[0] > 0
    assert rows[-1] < bottom - top - 1


def test_given_lines_stay_lines():
    one, two = LabelRenderer((1280, 720), "AI MODIFIED AI合成"), LabelRenderer((1280, 720), "AI MODIFIED\n AI合成 ")
    assert two.text == "AI MODIFIED\nAI合成"
    assert two.box[3] - two.box[1] > 1.5 * (one.box[3] - one.box[1])
    assert two.box[2] - two.box[0] < one.box[2] - one.box[0]


def test_a_long_notice_is_broken_between_words():
    label = LabelRenderer((240, 800), "FACE REPLACED BY A MACHINE")
    left, top, right, bottom = label.box
    assert right - left <= 240
    assert bottom - top > 2 * label.letter_height
    label.apply(np.zeros((800, 240, 3), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"size": (640, 480), "text": "  "}, "label_text"),
        ({"size": (640, 480), "text": "x" * 41}, "label_text"),
        ({"size": (640, 480), "text": "AI \U0010ffff"}, "label_text"),
        ({"size": (640, 480), "text": "由人工智能馬改"}, "label_text"),
        ({"size": (640, 480), "place": "middle"}, "label_place"),
        ({"size": (40, 40)}, "label_frame"),
        ({"size": (0, 40)}, "label_frame"),
    ],
)
def test_what_cannot_be_drawn_is_refused_when_the_renderer_is_made(arguments, code):
    with pytest.raises(LabelError) as caught:
        LabelRenderer(**arguments)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "frame",
    [np.zeros((479, 640, 3), np.uint8), np.zeros((480, 640, 4), np.uint8), np.zeros((480, 640, 3), np.float32)],
)
def test_a_frame_of_another_shape_or_type_is_refused(frame):
    with pytest.raises(LabelError) as caught:
        LabelRenderer((640, 480)).apply(frame)
    assert caught.value.code == "label_frame"
