"""A neural swap in steps: many frames under way, each face back in its own frame, the same as one by one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tests.worker import neural_graphs as graphs
from worker.faces.align import TEMPLATES
from worker.faces.errors import FaceError
from worker.faces.neural.donors import Identity
from worker.faces.neural.embeddings import apart, unit
from worker.faces.neural.join import Joiner, Look
from worker.faces.neural.paste import Paster
from worker.faces.neural.photo import PhotoLooker
from worker.faces.neural.points import five_of
from worker.faces.neural.swappers import Swapper
from worker.faces.neural.track import NeuralModels
from worker.inference.importing import import_folder
from worker.inference.registry import ModelSet
from worker.inference.sessions import LocalRunner
from worker.inference.types import Done, ModelError
from worker.media.planes import Planes
from worker.media.sample_clip import make_clip
from worker.pipeline.analysed import AnalysedFrame, AnalysisSummary, Form, FrameFace
from worker.pipeline.analysis import Analysis, AnalysisWriter
from worker.pipeline.errors import PipelineError
from worker.pipeline.neural_analysis import analyse_neural, analyse_photo_neural, analyse_video_neural
from worker.pipeline.neural_swapping import NeuralTrackSwapper, load_identities, plan_neural_swaps
from worker.pipeline.segments import TrackFacts
from worker.pipeline.swapping import sum_up
from worker.spec import JobSpec, SourcePhoto, Swap

SWAPPER = "hyperswap_1a_256"
GAINS = {"ghost_1_256": 0.1, "hififace_unofficial_256": 60.0, "uniface_256": 0.3, "blendswap_256": 0.2}
"""Swappers of which each takes its source in another way, and by how much their stand-ins show its mean."""
FORM = Form(68, 2, 512)
DONOR = Identity(unit(np.ones(512, np.float32)), 20.0, unit(np.ones(512, np.float32)))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    """All stand-ins; the 256-pixel swapper makes its picture lighter by the mean of the source, so that it shows."""
    folder = graphs.write_all(tmp_path_factory.mktemp("operator"))
    onnx.save(graphs.swapper(256, shade=True), folder / f"{SWAPPER}.onnx")
    for name, gain in GAINS.items():
        onnx.save(graphs.swapper_of(name, gain=gain), folder / f"{name}.onnx")
    for name in ("crossface_ghost", "crossface_hififace"):
        onnx.save(graphs.graph_of(name), folder / f"{name}.onnx")
    return import_folder(folder, folder / "cache")


@pytest.fixture(scope="module")
def runner(models: ModelSet, models_dir: Path) -> LocalRunner:
    return LocalRunner(models_dir, models=models)


def grey(level: int = 100) -> Planes:
    planes = Planes((640, 480))
    planes.buffer[:] = 128
    planes.y[:] = level
    return planes


def face(x: float = 320, y: float = 240, size: float = 140, track: int = 0) -> FrameFace:
    five = (np.array(TEMPLATES["arcface_128"], np.float32) - 0.5) * size * 1.5 + (x, y)
    box = np.array([x - size / 2, y - size / 2, size, size], np.float32)
    points = np.concatenate([five, [[x - size / 2, y - size / 2], [x + size / 2, y + size / 2]]]).astype(np.float32)
    landmarks = np.resize(points, (68, 2))
    # Eyes, nose tip and corners of the mouth where the 68-point markup has them.
    landmarks[36:42], landmarks[42:48] = five[0], five[1]
    landmarks[30], landmarks[48], landmarks[54] = five[2], five[3], five[4]
    return FrameFace(track, 0.9, box, landmarks.astype(np.float32))


def swapper(runner, models, name=SWAPPER, judged=frozenset(), **more) -> NeuralTrackSwapper:
    return NeuralTrackSwapper(runner, models, name, DONOR, judged, **more)


def whole(plan: NeuralTrackSwapper, frame, where: FrameFace, index: int = 0):
    """All steps at once."""
    step = plan.begin(frame, where, index)
    for _ in plan.later:
        step = step.go_on(frame)
    return step


@pytest.mark.parametrize("enhancer", ["", "gfpgan_1.4"])
def test_many_frames_under_way_give_what_one_at_a_time_gives(runner, models, enhancer):
    def frames() -> list[tuple[Planes, FrameFace]]:
        return [(grey(60 + 8 * k), face(200 + 15 * k, 240 - 5 * k, 120 + 4 * k)) for k in range(12)]

    alone = frames()
    plan = swapper(runner, models, enhancer=enhancer)
    for k, (planes, where) in enumerate(alone):
        whole(plan, planes, where, k)
    together = frames()
    plan = swapper(runner, models, enhancer=enhancer)
    waiting = [plan.begin(planes, where, k) for k, (planes, where) in enumerate(together)]
    for _ in plan.later:
        waiting = [pending.go_on(planes) for pending, (planes, _) in zip(waiting, together, strict=True)]
    for (one, _), (other, _) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.buffer, other.buffer)
    assert plan.facts().replaced == 12
    plan.start_anew()
    assert plan.facts() == TrackFacts()


def test_the_face_gets_what_the_swapper_made_of_the_donor_and_the_rest_of_the_frame_nothing(runner, models):
    planes = grey()
    whole(swapper(runner, models), planes, face())
    lighter = float(np.ones(512).mean() / np.sqrt(512)) / 2 * 219  # the graph's own values run from -1 to 1
    assert abs(int(planes.y[240, 320]) - (100 + lighter)) <= 1
    changed = np.argwhere(planes.y != 100)
    assert changed.min(axis=0)[0] > 240 - 140
    assert changed.max(axis=0)[1] < 320 + 140


def test_a_photo_is_swapped_as_rgb(runner, models):
    picture = np.full((481, 641, 3), 100, np.uint8)  # odd sizes too
    whole(swapper(runner, models), picture, face())
    assert abs(int(picture[240, 320, 0]) - (100 + 255 / np.sqrt(512) / 2)) <= 1
    assert (picture[:60] == 100).all()


@pytest.mark.parametrize("name", [SWAPPER, "inswapper_128"])
def test_both_sizes_of_swapper_are_driven_alike(runner, models, name):
    plan = swapper(runner, models, name)
    whole(plan, grey(), face())
    assert plan.facts().replaced == 1


@pytest.mark.parametrize("name", GAINS)
def test_what_a_swapper_takes_of_the_donors_photos_is_what_its_runs_get(tmp_path, runner, models, samples, name):
    spec = replace(job(tmp_path, [samples / "astronaut.jpg"]), swapper=name)
    (identity,) = load_identities(spec, runner, models).values()
    contract = models.card(name).contract
    assert identity.source.shape == contract.inputs["source"]
    mean = float(identity.source.mean(axis=(1, 2))[0] if contract.source else identity.source.mean())
    low, high = contract.image.output_range
    lighter = GAINS[name] * mean / (high - low)
    assert abs(lighter) > 0.02
    planes, picture = grey(), np.full((480, 640, 3), 120, np.uint8)
    for frame in (planes, picture):
        whole(NeuralTrackSwapper(runner, models, name, identity), frame, face())
    assert abs(int(planes.y[240, 320]) - (100 + lighter * 219)) <= 1
    assert abs(picture[240, 320].astype(int) - (120 + lighter * 255)).max() <= 1


@pytest.mark.parametrize("enhancer", ["", "gfpgan_1.4"])
def test_more_pixels_are_runs_of_their_own_that_are_all_handed_in_at_once(runner, models, enhancer):
    handed: list[str] = []

    class Counting:
        def submit(self, model, inputs):
            handed.append(model)
            return Done(runner.run(model, inputs))

    plain, planes = grey(), grey()
    whole(swapper(runner, models, enhancer=enhancer), plain, face())
    plan = NeuralTrackSwapper(Counting(), models, SWAPPER, DONOR, enhancer=enhancer, pixel_boost=3)
    step = plan.begin(planes, face(), 0)
    assert handed == [SWAPPER] * 9
    for _ in plan.later:
        step = step.go_on(planes)
    assert plan.facts().replaced == 1
    assert np.abs(plain.buffer.astype(int) - planes.buffer).max() <= 1  # an even picture has no finer detail


def test_a_donor_read_for_another_swapper_is_refused(runner, models):
    plan = NeuralTrackSwapper(runner, models, "uniface_256", DONOR)
    with pytest.raises(ModelError) as caught:
        plan.begin(grey(), face(), 0)
    assert caught.value.code == "input_invalid"


def test_a_face_outside_the_frame_or_too_small_is_left_alone(runner, models):
    planes = grey()
    plan = swapper(runner, models)
    assert plan.begin(planes, face(x=-500), 0) is None
    assert plan.begin(planes, face(size=20), 1) is None
    assert plan.facts().left_alone == 2
    assert (planes.y == 100).all()


def test_a_frame_before_a_segment_and_a_cut_leave_no_trace(runner, models):
    fresh, planes = grey(), grey()
    whole(swapper(runner, models), fresh, face())
    plan = swapper(runner, models)
    looked = grey(30)
    plan.look(looked, face(x=200))
    plan.reset()
    assert (looked.y == 30).all()
    whole(plan, planes, face())
    np.testing.assert_array_equal(fresh.buffer, planes.buffer)


@pytest.mark.parametrize("enhancer", ["", "gfpgan_1.4"])
def test_sampled_frames_are_judged_by_their_embeddings(runner, models, enhancer):
    plan = swapper(runner, models, judged=frozenset({1}), enhancer=enhancer)
    for index in range(3):
        planes = grey(80 + 20 * index)
        judged = whole(plan, planes, face(), index)
        assert (judged is not None) == (index == 1)
        if judged is not None:
            judged.judge(runner, planes)
    quality = sum_up([plan.facts()])
    assert quality["frames_judged"] == 1
    assert 0 < quality["distance_to_target"] < 0.5
    assert quality["frames_replaced"] == 3


def test_a_run_that_fails_leaves_the_frame_as_it_was(runner, models):
    class Failing:
        def submit(self, model, inputs):
            return self

        def result(self):
            raise ModelError("engine_failed", "it ended")

        def run(self, model, inputs):
            raise AssertionError("not asked for")

    planes = grey()
    plan = NeuralTrackSwapper(Failing(), models, SWAPPER, DONOR)
    pending = plan.begin(planes, face(), 0)
    with pytest.raises(ModelError):
        pending.go_on(planes)
    assert (planes.y == 100).all()
    assert plan.facts().replaced == 0


def test_an_enhanced_face_is_blended_over_the_swapped_one(runner, models):
    plain, planes = grey(), grey()
    whole(swapper(runner, models), plain, face())
    whole(swapper(runner, models, enhancer="gfpgan_1.4"), planes, face())
    assert np.abs(plain.buffer.astype(int) - planes.buffer).max() <= 1  # this one gives its picture back

    class Lighter:
        def submit(self, model, inputs):
            more = np.uint8(64 if model == "gfpgan_1.4" else 0)  # a quarter of what there is from black to white
            return Done({"output": runner.run(model, inputs)["output"] + more})

    lighter = grey()
    whole(NeuralTrackSwapper(Lighter(), models, SWAPPER, DONOR, enhancer="gfpgan_1.4"), lighter, face())
    assert abs(int(lighter.y[240, 320]) - int(plain.y[240, 320]) - 0.8 * 0.25 * 219) <= 1


@pytest.mark.parametrize("there", [[], [SWAPPER, "arcface_w600k_r50"]])
def test_a_swapper_or_an_enhancer_that_is_not_installed_is_refused_at_once(runner, models, there):
    with pytest.raises(ModelError) as caught:
        NeuralTrackSwapper(runner, models.only(there), SWAPPER, DONOR, enhancer="gfpgan_1.4")
    assert caught.value.code == "model_missing"


# -- photos ----------------------------------------------------------------------------------------------------------


def test_a_face_of_a_photo_is_found_by_the_detector_or_where_another_analysis_saw_it(runner, models, astronaut):
    looker = PhotoLooker(runner, models, NeuralModels())
    (found,) = looker.faces(astronaut)
    x, y, width, height = np.array(graphs.FACE) * 512 / 640  # the stand-in sees its one face there
    points = (x - width / 2, y - height / 2) + graphs.template_68() * (width, height)
    np.testing.assert_allclose(found.landmarks, points, atol=0.1)
    assert np.linalg.norm(found.descriptor) == pytest.approx(1)
    assert looker.faces(astronaut, min_size=200) == []
    near = looker.face_at(astronaut, found.box + 3)
    np.testing.assert_array_equal(near.descriptor, found.descriptor)
    away = np.array([20, 300, 120, 150], np.float32)
    aside = looker.face_at(astronaut, away)
    assert 20 < aside.five[0, 0] < aside.five[1, 0] < 140
    assert apart(aside.descriptor, found.descriptor) > 1e-3


def test_a_photo_is_analysed_by_neural_models(tmp_path, runner, models, samples):
    summary = analyse_photo_neural(
        samples / "astronaut.jpg", tmp_path / "a", runner, models, report=lambda stage, done, total: None
    )
    analysis = Analysis.load(tmp_path / "a")
    assert analysis.info == summary
    assert (summary.form, summary.model_set, summary.frames) == (FORM, models.id(), 1)
    (track,) = analysis.tracks
    assert len(track.descriptor or ()) == 512
    (frame,) = analysis.frames()
    assert frame.faces[0].landmarks.shape == (68, 2)


# -- with a stored analysis ----------------------------------------------------------------------------------------


def stored(path: Path, faces: list[FrameFace], form: Form = FORM) -> Analysis:
    writer = AnalysisWriter(path, form)
    for index, one in enumerate(faces):
        writer.add(AnalysedFrame(index, index / 25, (one,)))
    writer.finish(AnalysisSummary("video", "extended", 640, 480, len(faces), 1.0, (), form=form))
    return Analysis.load(path)


def job(tmp_path: Path, photos: list[Path], target: int = 0) -> JobSpec:
    sources = tuple(SourcePhoto(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in photos)
    return JobSpec(
        job_id="job",
        kind="video",
        target_path=tmp_path / "in.mp4",
        target_sha256="",
        analysis_path=tmp_path / "a",
        output_path=tmp_path / "out.mp4",
        output_mime="video/mp4",
        swaps=(Swap(target, sources),),
        swapper=SWAPPER,
    )


def test_a_donor_is_the_mean_direction_of_all_photos(tmp_path, runner, models, samples):
    one, two = samples / "grace_hopper.jpg", samples / "astronaut.jpg"
    single = [load_identities(job(tmp_path, [path]), runner, models)[0] for path in (one, two)]
    both = load_identities(job(tmp_path, [one, two]), runner, models)[0]
    np.testing.assert_allclose(both.embedding, unit(single[0].embedding + single[1].embedding), atol=1e-5)
    np.testing.assert_array_equal(both.source, both.embedding)
    assert both.sharpness == max(single[0].sharpness, single[1].sharpness)


def test_a_plan_is_made_from_the_stored_landmarks_and_refuses_what_cannot_become_good(
    tmp_path, runner, models, samples
):
    spec = job(tmp_path, [samples / "grace_hopper.jpg"])
    plans = plan_neural_swaps(spec, stored(tmp_path / "a", [face()] * 30), {0: DONOR}, runner, models)
    # The middle of the first fifth of 30 frames is a sample.
    assert whole(plans[0], grey(), face(), 3) is not None
    with pytest.raises(PipelineError) as missing:
        plan_neural_swaps(spec, stored(tmp_path / "b", [face(track=7)]), {0: DONOR}, runner, models)
    assert missing.value.code == "target_missing"
    with pytest.raises(FaceError) as small:
        plan_neural_swaps(spec, stored(tmp_path / "c", [face(size=30)] * 5), {0: DONOR}, runner, models)
    assert small.value.code == "face_too_small"


def test_photos_are_looked_at_by_all_detectors_and_clips_by_the_best(tmp_path, runner, models, samples):
    beside = tmp_path / "beside.png"
    rgb = cv2.imread(str(samples / "astronaut.jpg"))
    cv2.imwrite(str(beside), np.concatenate([np.full_like(rgb, 90), rgb], axis=1))
    before = dict.fromkeys(("yoloface_8n", "yunet", "blazeface_full"), 0)

    class Counting:
        def run(self, model, inputs):
            return self.submit(model, inputs).result()

        def submit(self, model, inputs):
            before[model] = before.get(model, 0) + 1
            return Done(runner.run(model, inputs))

    def report(stage, done, total):
        pass

    options = {"report": report, "raise_if_stopped": lambda: None}
    summary = analyse_neural(beside, tmp_path / "a", Counting(), models, photo=True, **options)
    assert min(before[name] for name in ("yoloface_8n", "yunet", "blazeface_full")) >= 1
    # The stand-ins see their one face; the real one, aside from it, only the built-in detectors.
    assert len(summary.tracks) == 2
    assert {len(track.descriptor or ()) for track in summary.tracks} == {512}
    without = models.only(["arcface_w600k_r50"])
    summary = analyse_neural(beside, tmp_path / "b", runner, without, photo=True, **options)
    (track,) = summary.tracks  # the built-in detectors and mesh
    assert track.box[0] > 512
    clip = tmp_path / "clip.mp4"
    make_clip(samples / "astronaut.jpg", clip, seconds=0.2, size=(320, 180))
    before.clear()
    analyse_neural(clip, tmp_path / "c", Counting(), models, photo=False, **options)
    assert before["yoloface_8n"] >= 4
    assert not before.keys() & {"yunet", "blazeface_full"}


@pytest.mark.parametrize("every", [1, 4])
def test_a_clip_is_analysed_by_neural_models_and_its_analysis_drives_a_swap(tmp_path, runner, models, samples, every):
    clip = tmp_path / "clip.mp4"
    make_clip(samples / "astronaut.jpg", clip, seconds=1, size=(640, 360))
    told: list[int] = []
    summary = analyse_video_neural(
        clip,
        tmp_path / "a",
        runner,
        models,
        detect_every=every,
        report=lambda stage, done, total: told.append(done),
        raise_if_stopped=lambda: None,
    )
    analysis = Analysis.load(tmp_path / "a")
    assert analysis.info == summary
    assert analysis.info.form == Form(68, 2, 512)
    assert analysis.info.model_set == models.id()
    (track,) = analysis.tracks
    assert len(track.descriptor or ()) == 512
    assert track.frames == summary.frames == told[-1]
    found = list(analysis.frames())
    assert [frame.index for frame in found] == list(range(summary.frames))
    x, y, width, height = graphs.FACE  # the stand-in detector sees one face there, at the scale of this clip
    points = (x - width / 2, y - height / 2) + graphs.template_68() * (width, height)
    np.testing.assert_allclose(found[0].faces[0].landmarks, points, atol=0.1)
    plans = plan_neural_swaps(job(tmp_path, [samples / "grace_hopper.jpg"]), analysis, {0: DONOR}, runner, models)
    assert plans[0].begin(grey(), found[0].faces[0], 0) is not None


@pytest.mark.parametrize("frame", [grey(), np.full((480, 640, 3), 120, np.uint8)], ids=["planes", "picture"])
def test_a_faded_face_changes_the_frame_by_its_share_and_is_not_judged(runner, models, frame):
    def middle(target):
        return int(target.y[240, 320] if isinstance(target, Planes) else target[240, 320, 0])

    def change(strength):
        target = grey() if isinstance(frame, Planes) else frame.copy()
        before = middle(target)
        judged = whole(swapper(runner, models, judged=frozenset({0})), target, replace(face(), strength=strength))
        return middle(target) - before, judged

    (full, judged), (half, not_judged) = change(1.0), change(0.5)
    assert full > 4
    assert abs(half - full / 2) <= 1
    assert judged is not None
    assert not_judged is None


@pytest.mark.parametrize("blend", ["feather", "multiband", "poisson"])
@pytest.mark.parametrize("matched", [False, True])
def test_however_a_face_is_joined_a_swapper_that_gives_back_its_input_leaves_the_frame(
    runner, models, samples, blend, matched
):
    picture = cv2.cvtColor(cv2.imread(str(samples / "astronaut.jpg")), cv2.COLOR_BGR2RGB)
    look = Look(blend, matched)
    same = Swapper(models.card(SWAPPER))
    tiles, matrix = same.tiles(picture, five_of(face().landmarks))
    output = tiles[0].transpose(2, 0, 1)[None]
    frame = picture.copy()
    box = Joiner(Paster(same.side), same, look).join(frame, matrix, [{same.image.output: output}])
    assert box is not None
    away = np.abs(frame.astype(int) - picture)
    # A square that is cut out and put back is sampled twice; Lab in bytes rounds colours.
    assert np.percentile(away, 99) <= 6
    outside = np.ones(picture.shape[:2], bool)
    outside[box.top : box.bottom, box.left : box.right] = False
    np.testing.assert_array_equal(frame[outside], picture[outside])
