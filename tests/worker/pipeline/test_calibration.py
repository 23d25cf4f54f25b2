"""Samples are what the models are really fed, the same for the same seed, and the judged are not the learnt."""

from __future__ import annotations

import numpy as np
import pytest

from worker.inference import registry, samples
from worker.inference.sessions import LocalRunner
from worker.pipeline import calibration


@pytest.fixture(scope="module")
def runner(models_dir):
    return LocalRunner(models_dir, precisions={})


@pytest.fixture(scope="module")
def found(runner, astronaut, grace):
    return calibration.collect(runner, [astronaut, grace], seed=5, drawn=3)


def rows(inputs: samples.Inputs) -> set[bytes]:
    return {row.tobytes() for row in inputs["image"]}


@pytest.mark.parametrize("name", registry.cards())
def test_every_model_gets_samples_that_fit_its_contract(found, name):
    for part in (found.calibration, found.gate, found.drawn):
        assert registry.check_inputs(registry.card(name), {"image": part[name]["image"][:8]}) >= 3


@pytest.mark.parametrize("name", registry.cards())
def test_no_sample_both_teaches_and_judges(found, name):
    assert not rows(found.calibration[name]) & rows(found.gate[name])


@pytest.mark.parametrize("name", registry.cards())
def test_what_is_kept_is_drawn_and_never_of_a_given_picture(found, runner, name):
    alone = calibration.collect(runner, seed=5, drawn=3)
    assert samples.digest(found.drawn[name]) == samples.digest(alone.drawn[name]) == samples.digest(alone.gate[name])
    assert rows(found.drawn[name]) < rows(found.gate[name])
    assert len(rows(found.calibration[name])) > len(rows(alone.calibration[name]))


def test_the_mesh_is_also_shown_where_there_is_no_face(found, runner):
    seen = runner.run("face_mesh", {"image": found.drawn["face_mesh"]["image"]})["presence"]
    assert (seen > 0.5).sum() >= 3
    assert (seen < 0.5).sum() >= 3


def test_another_seed_gives_other_samples(found, runner):
    other = calibration.collect(runner, seed=6, drawn=1)
    assert not rows(other.gate["face_descriptor"]) & rows(found.gate["face_descriptor"])


def test_samples_come_back_from_their_file_and_other_files_are_refused(found, tmp_path):
    path = tmp_path / "some.samples.npz"
    path.write_bytes(samples.dump(found.drawn["face_mesh"]))
    assert samples.digest(samples.load(path)) == samples.digest(found.drawn["face_mesh"])
    for content in (b"", b"no archive", path.read_bytes()[:-100]):
        path.write_bytes(content)
        with pytest.raises(ValueError):
            samples.load(path)


def test_progress_goes_from_nothing_towards_all(runner):
    told: list[float] = []
    calibration.collect(runner, drawn=2, progress=lambda _, fraction: told.append(fraction))
    assert told == sorted(told)
    assert len(told) == 4
    assert told[-1] < 1


def test_a_large_picture_does_not_outweigh_the_others(runner, astronaut):
    large = np.tile(astronaut, (3, 4, 1))
    found = calibration.collect(runner, [large], drawn=0)
    assert len(found.calibration["blazeface_full"]["image"]) <= 3
