"""Drawn faces are faces to the nets, differ from each other, and come again from the same seed."""

import numpy as np

from worker.faces.analyse import analyse_image
from worker.faces.synthetic import draw_face


def test_the_nets_find_exactly_one_face_in_each_drawing_and_it_is_large(runner):
    generator = np.random.default_rng(11)
    for _ in range(12):
        (face,) = analyse_image(draw_face(generator), runner)
        assert face.score > 0.7
        assert face.size > 120


def test_the_same_seed_draws_the_same_picture_and_another_one_another():
    first, again, other = (draw_face(np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 10


def test_a_drawing_has_the_wanted_size():
    picture = draw_face(np.random.default_rng(0), side=200)
    assert (picture.shape, picture.dtype) == ((200, 200, 3), np.uint8)


def test_drawn_people_are_as_different_to_the_descriptor_as_the_thresholds_lie(runner):
    generator = np.random.default_rng(12)
    descriptors = np.stack([analyse_image(draw_face(generator), runner)[0].descriptor for _ in range(10)])
    apart = np.linalg.norm(descriptors[:, None] - descriptors[None], axis=2)[np.triu_indices(10, 1)]
    assert apart.min() > 0.1
    assert (apart < 0.45).any()  # else no gate could see a pair cross that threshold
    assert (apart > 0.40).any()
