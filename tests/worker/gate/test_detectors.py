"""Packs on pictures: their rows, what becomes of them, and that one that breaks is an error and no other's matter."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.ledger.canonical import canonical
from tests.worker.gate.clean import clean_upload
from tests.worker.gate.pack_graphs import SIDE, write_graph, write_manifest
from tests.worker.gate.test_content_policy import upload
from tests.worker.gate.test_policy import EVALUATION, STANDARD, STRICT
from worker.gate import policy
from worker.gate.looks.detectors import DetectorLook, Seen, fake_scores, judge, prepare, usable
from worker.gate.looks.looking import look_at
from worker.gate.looks.nsfw import NsfwLook, voted
from worker.gate.looks.sampling import Sample, SampledFace
from worker.gate.packs import aggregate
from worker.gate.packs.calibration import Calibration, Curve
from worker.gate.packs.pack_store import PackStore
from worker.gate.packs.standing import Evaluation, Standing
from worker.inference import packs
from worker.inference.registry import BUILTIN
from worker.inference.sessions import LocalRunner
from worker.pipeline.analysed import Track

TRACK = Track(0, 0.0, 0.0, 1, 0, 0.0, (0.0, 0.0, 90.0, 90.0), 90.0, 0.0, None)
# Half of a logit: p = sigmoid(0.5 * logit(raw)); so a graph's logit of 2 is p = 0.731.
CURVE = Curve("platt", (0.5,), (0.0,))


def calibration(sha256: str, review: float = 0.6, high: float = 0.9) -> Calibration:
    return Calibration(CURVE, review, high, (0.0, 1.0), sha256, "d" * 64, "2026-11-01", 100, 100)


def sample(seconds: float = 0.0, level: int = 128, *, size: float = 100.0, track: int = 0) -> Sample:
    """A noisy grey picture with one face."""
    draw = np.random.default_rng(round(1000 * seconds))
    rgb = np.clip(draw.normal(level, 40, (160, 160, 3)), 0, 255).astype(np.uint8)
    box = np.array([20.0, 20.0, size, size], np.float32)
    return Sample(seconds, rgb, (SampledFace(track, box, np.zeros((478, 3), np.float32)),))


class House:
    """Packs in a folder, and a runner that has them."""

    def __init__(self, folder: Path, models_dir: Path) -> None:
        self.folder, self._models_dir = folder, models_dir
        self.store = PackStore(folder / "packs")

    def add(self, name: str, kind: str = "face_forgery", extra: str = "", **graph: Any) -> None:
        write_graph(self.folder / f"{name}.onnx", **graph)
        self.store.install(write_manifest(self.folder / f"{name}.toml", kind=kind, extra=extra), pin=True)

    def standings(self, *deciding: str) -> list[Standing]:
        """All packs; those named decide, as if calibrated and evaluated."""
        found = []
        for one in self.store.standings():
            assert one.pack is not None
            known = calibration(one.pack.sha256)
            decides = one.id in deciding
            changes: dict[str, Any] = {"role": "enforcing", "code": "", "calibration": known} if decides else {}
            found.append(replace(one, **changes))
        return found

    def runner(self) -> LocalRunner:
        return LocalRunner(self._models_dir, models=BUILTIN.with_gate(packs.present(self.store.folder)))

    def look(self, standings: Sequence[Standing], samples: Sequence[Sample], kind: str = "face_forgery") -> Any:
        tracks = (replace(TRACK, last_seconds=samples[-1].seconds),)
        look = DetectorLook(kind, self.runner(), standings, tracks, video=len(samples) > 1)
        return look_at(samples, [look])[0]


@pytest.fixture
def house(tmp_path: Path, models_dir: Path) -> House:
    return House(tmp_path, models_dir)


def decided(signal: Any) -> list[tuple[str, tuple[str, ...]]]:
    """What the three profiles make of an upload with this signal, all else being in order."""
    found = upload(**{signal.kind: signal})
    return [
        ((one := policy.decide_asset(found, profile, "target")).decision, one.reasons)
        for profile in (EVALUATION, STANDARD, STRICT)
    ]


def test_an_advisory_pack_is_recorded_and_decides_nothing(house: House) -> None:
    house.add("quiet", gain=0.0, bias=8.0)  # cries "fake" at everything
    signal = house.look(house.standings(), [sample()])
    assert (signal.status, signal.value["code"]) == ("not_installed", "no_enforcing_pack")
    (row,) = signal.value["packs"]
    assert row["raw"] == pytest.approx(1 / (1 + math.exp(-8)), abs=1e-5)
    assert (row["role"], row["standing"]) == ("advisory", "not_calibrated")
    assert "p" not in row
    assert decided(signal)[0] == ("accept", ())
    assert decided(signal)[2] == ("review", ("not_screened_face_forgery",))


def test_the_record_names_the_measured_error_rates(house: House) -> None:
    house.add("drawn", gain=0.0)
    (standing,) = house.standings("drawn")
    assert standing.pack is not None
    measured = Evaluation(standing.pack.sha256, "c", "d", "e", 0.03, 60, {"a": 0.1, "b": 0.15}, {}, math.nan)
    signal = house.look([replace(standing, evaluation=measured)], [sample()])
    assert signal.value["packs"][0]["measured"] == {"bpcer": 0.03, "worst_apcer": 0.15, "auc": None}


@pytest.mark.parametrize(
    ("bias", "expected"),
    [(-2.0, ()), (2.0, ("face_forgery_suspected",)), (6.0, ("face_forgery_likely",))],
)
def test_a_deciding_pack_only_ever_asks_a_person(house: House, bias: float, expected: tuple[str, ...]) -> None:
    house.add("drawn", gain=0.0, bias=bias)
    signal = house.look(house.standings("drawn"), [sample()])
    assert signal.status == "measured"
    assert signal.value["p"] == pytest.approx(1 / (1 + math.exp(-bias / 2)), abs=1e-4)
    assert decided(signal) == [("review" if expected else "accept", expected)] * 3


def test_packs_of_a_kind_are_fused_by_their_mean_and_advisory_ones_left_out(house: House) -> None:
    house.add("one", gain=0.0, bias=0.0)
    house.add("two", gain=0.0, bias=4.0)
    house.add("loud", gain=0.0, bias=9.0)
    signal = house.look(house.standings("one", "two"), [sample()])
    assert signal.value["p"] == pytest.approx((0.5 + 1 / (1 + math.exp(-2))) / 2, abs=1e-4)
    assert [row["id"] for row in signal.value["packs"]] == ["loud", "one", "two"]


@pytest.mark.parametrize(
    ("graph", "extra", "code"),
    [
        ({"nan": True}, "", "not_finite"),
        ({"steps": 200}, "[run]\nseconds = 0.05", "timeout"),
    ],
)
def test_a_deciding_pack_that_breaks_asks_a_person_in_every_profile(
    house: House, graph: dict[str, Any], extra: str, code: str
) -> None:
    house.add("broken", extra=extra, **graph)
    house.add("good", gain=0.0, bias=-5.0)
    bright = [sample(level=200)]
    signal = house.look(house.standings("broken", "good"), bright)
    assert (signal.status, signal.value["code"]) == ("error", code)
    assert [row["code"] for row in signal.value["packs"]] == [code, ""]  # the other one's answer is kept
    assert decided(signal) == [("review", (f"face_forgery_{code}",))] * 3
    for thread in threading.enumerate():
        if thread.name == "pack pack:broken":
            thread.join()  # the runtime must not be at work when the interpreter ends
    # As an advisory pack it is only noted.
    assert house.look(house.standings("good"), bright).status == "measured"


@pytest.mark.parametrize(
    "code", ["model_hash_mismatch", "pack_missing", "pack_not_loaded", "pack_licence_not_accepted"]
)
def test_a_deciding_pack_that_cannot_be_run_does_not_pass_for_none(code: str) -> None:
    lost = Standing("lost", "face_forgery", "refused", code, wanted=True)
    signal = judge("face_forgery", [lost], {"lost": Seen((), 0, code)}, video=False)
    assert signal.status == "error"
    assert decided(signal) == [("review", (f"face_forgery_{code}",))] * 3
    idle = replace(lost, wanted=False)
    assert judge("face_forgery", [idle], {"lost": Seen((), 0, code)}, video=False).status == "not_installed"


def test_a_file_that_was_altered_behind_the_record_is_found_when_it_is_run(house: House) -> None:
    house.add("drawn", gain=0.0)
    standings = house.standings("drawn")
    model = house.store.folder / "drawn" / packs.MODEL
    data = bytearray(model.read_bytes())
    data[-1] ^= 1  # of the same size
    model.write_bytes(data)
    signal = house.look(standings, [sample()])
    assert (signal.status, signal.value["code"]) == ("error", "model_hash_mismatch")


def test_faces_too_small_or_blurred_are_counted_and_not_passed(house: House) -> None:
    house.add("drawn", gain=0.0, bias=-5.0)
    flat = replace(sample(), rgb=np.full((160, 160, 3), 90, np.uint8))
    for unfit in (sample(size=79.0), flat):
        signal = house.look(house.standings("drawn"), [unfit])
        assert signal.status == "not_applicable"
        assert signal.value["packs"][0]["not_applicable"] == 1
        assert decided(signal)[1:] == [("review", ("face_forgery_not_applicable",))] * 2
    assert usable(sample(size=80.0).rgb, sample(size=80.0).faces[0])


def test_a_video_needs_sixteen_usable_faces(house: House) -> None:
    house.add("drawn", gain=0.0, bias=-5.0)
    standings = house.standings("drawn")
    assert house.look(standings, [sample(n / 2) for n in range(15)]).status == "not_applicable"
    assert house.look(standings, [sample(n / 2) for n in range(16)]).status == "measured"


def test_the_timeline_shows_where_a_video_was_changed(house: House) -> None:
    house.add("bright", gain=40.0, bias=-20.0)  # bright faces are "fake"
    levels = [90] * 12 + [190] * 4 + [90] * 4 + [190] * 2 + [90] * 8
    signal = house.look(house.standings("bright"), [sample(float(n), level) for n, level in enumerate(levels)])
    (row,) = signal.value["packs"]
    assert [seconds for seconds, _ in row["timeline"]] == list(map(float, range(30)))
    assert [seconds for seconds, p in row["timeline"] if p >= row["review"]] == [12.0, 13.0, 14.0, 15.0, 20.0, 21.0]
    assert (row["run_frames"], row["run_seconds"], row["share"]) == (4, 3.0, 0.2)
    assert signal.value["p"] > 0.6  # a fifth of the frames decides


def test_generated_pictures_are_looked_at_whole(house: House) -> None:
    house.add("made", kind="ai_image", gain=0.0, bias=6.0)
    without_face = replace(sample(), faces=())
    signal = house.look(house.standings("made"), [without_face], "ai_image")
    assert decided(signal) == [("review", ("ai_image_likely",))] * 3


@pytest.mark.parametrize(
    ("form", "higher", "row", "expected"),
    [
        ("probability", "fake", [0.25], 0.25),
        ("probability", "real", [0.25], 0.75),
        ("logit", "fake", [0.0], 0.5),
        ("logit", "real", [math.log(3)], 0.25),
        ("softmax", "fake", [0.0, math.log(3)], 0.75),
        ("softmax", "real", [0.0, math.log(3)], 0.25),
    ],
)
def test_an_output_is_read_as_its_manifest_says(
    tmp_path: Path, form: str, higher: str, row: list[float], expected: float
) -> None:
    known = packs.read(packs.shipped()["meso4_df"])
    pack = replace(known, form=form, higher=higher, values=len(row), index=len(row) - 1)  # type: ignore[arg-type]
    assert fake_scores(pack, np.array([row], np.float32)) == pytest.approx([expected])


def test_a_picture_is_prepared_as_its_manifest_says(tmp_path: Path) -> None:
    rgb = np.zeros((200, 300, 3), np.uint8)
    rgb[..., 0], rgb[..., 1], rgb[..., 2] = 255, 51, 0
    write_graph(tmp_path / "x.onnx")
    base = packs.read(write_manifest(tmp_path / "x.toml", kind="ai_image"))
    image = replace(base.image, mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    chw = prepare(replace(base, image=image), rgb, None)
    assert chw.shape == (3, SIDE, SIDE)
    assert [float(chw[channel, 8, 8]) for channel in range(3)] == pytest.approx([2.0, -0.6, -0.5])
    hwc = prepare(replace(base, image=replace(base.image, layout="NHWC", colours="BGR")), rgb, None)
    assert list(hwc[8, 8]) == pytest.approx([0.0, 0.2, 1.0])
    # The middle of the picture: with `resize` the whole shorter side, without it as many pixels as the model takes.
    marked = np.zeros((200, 300, 3), np.uint8)
    marked[95:105, 145:155] = 255
    whole = prepare(replace(base, resize=SIDE), marked, None)
    middle = prepare(base, marked, None)
    assert whole.mean() < 0.02
    assert middle.mean() > 0.3


def test_a_face_is_cut_out_as_its_manifest_says(tmp_path: Path) -> None:
    rgb = np.zeros((200, 300, 3), np.uint8)
    rgb[50:110, 100:140] = 255  # a face of 40 x 60 pixels
    face = SampledFace(0, np.array([100.0, 50.0, 40.0, 60.0], np.float32), np.zeros((478, 3), np.float32))
    write_graph(tmp_path / "x.onnx")
    base = packs.read(write_manifest(tmp_path / "x.toml"))
    assert prepare(base, rgb, face).mean() == pytest.approx(40 / 60, abs=0.06)  # a square of the longer side
    assert prepare(replace(base, crop=2.0), rgb, face).mean() == pytest.approx(40 / 60 / 4, abs=0.04)
    stretched = replace(base, image=replace(base.image, framing="box"))
    assert prepare(stretched, rgb, face).mean() > 0.93  # the box fills the square
    mesh = np.zeros((478, 3), np.float32)
    mesh[[33, 133]], mesh[[362, 263]] = (110, 70, 0), (130, 70, 0)
    mesh[1], mesh[61], mesh[291] = (120, 80, 0), (112, 95, 0), (128, 95, 0)
    points = ((0.25, 0.25), (0.75, 0.25), (0.5, 0.5), (0.3, 0.875), (0.7, 0.875))
    pointed = replace(base, image=replace(base.image, framing="points"), points=points)
    dotted = np.zeros_like(rgb)
    dotted[68:73, 108:113] = 255  # the first eye
    found = prepare(pointed, dotted, replace(face, landmarks=mesh))[0]
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert (row, column) == (pytest.approx(4, abs=1), pytest.approx(4, abs=1))


def voter(house: House, name: str, bias: float) -> None:
    """A pack that votes by a constant."""
    write_graph(house.folder / f"{name}.onnx", gain=0.0, bias=bias)
    path = write_manifest(house.folder / f"{name}.toml")
    text = path.read_text().replace('"face_forgery"', '"nsfw"').replace('"face"', '"letterbox"')
    path.write_text(text.replace('form = "logit"', 'form = "vote"\nplus = [0]\nabove = 0.5'))
    house.store.install(path, pin=True)


@pytest.mark.parametrize(
    ("biases", "positive", "expected"),
    [((1.0, 1.0, 0.0), 1, "reject"), ((1.0, 0.0, 0.0), 0, "accept"), ((1.0, 1.0), 1, "reject"), ((1.0,), None, "")],
)
def test_two_voters_must_agree_on_a_picture(
    house: House, biases: tuple[float, ...], positive: int | None, expected: str
) -> None:
    for number, bias in enumerate(biases):
        voter(house, f"voter{number}", bias)
    look = NsfwLook(house.runner(), None, house.store.standings())
    (signal,) = look_at([sample()], [look])
    if positive is None:  # one alone is not asked
        assert (signal.status, signal.value["code"]) == ("error", "no_pictures")
        return
    assert signal.value["votes"]["positive"] == positive
    assert set(signal.value["votes"]["packs"]) == {f"voter{number}" for number in range(len(biases))}
    assert decided(signal)[0][0] == expected


def test_a_voter_that_is_lost_must_not_turn_the_majority(house: House) -> None:
    voter(house, "one", 0.0)
    voter(house, "two", 0.0)
    (house.store.folder / "two" / packs.MODEL).unlink()
    look = NsfwLook(house.runner(), None, house.store.standings())
    (signal,) = look_at([sample()], [look])
    assert (signal.status, signal.value["code"]) == ("error", "pack_missing")
    assert decided(signal) == [("review", ("nsfw_pack_missing",))] * 3


@pytest.mark.parametrize(
    ("name", "row", "yes"),
    [
        ("nsfw_2", [1.0, 0.7], True),
        ("nsfw_2", [1.0, 0.8], False),
        ("nsfw_3", [0, 0, 5, 6], True),
        ("nsfw_3", [1, 0, 5, 6], False),
    ],
)
def test_the_shipped_voters_vote_by_facefusions_thresholds(name: str, row: list[float], yes: bool) -> None:
    assert voted(packs.read(packs.shipped()[name]), np.array(row, np.float32)) is yes


def test_a_detector_of_body_parts_votes_by_its_surest_box() -> None:
    pack = packs.read(packs.shipped()["nsfw_1"])
    row = np.zeros((9, 8400), np.float32)
    row[:4] = 300.0  # coordinates are no scores
    assert not voted(pack, row)
    row[7, 4000] = 0.21
    assert voted(pack, row)
    assert pack.model_card().contract.outputs[""] == (9, 8400)


SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(SCORES, st.floats(0, 1))
def test_a_summary_is_what_counting_gives(scores: list[float], threshold: float) -> None:
    found = aggregate.summarise([(float(n), score) for n, score in enumerate(scores)], threshold)
    over = "".join("x" if score >= threshold else " " for score in scores)
    longest = max(map(len, over.split(" ")), default=0)
    assert found.run_frames == longest
    assert found.run_seconds == max(0, longest - 1)
    assert found.share == pytest.approx(over.count("x") / len(scores))
    count = math.ceil(0.2 * len(scores))
    assert found.score == pytest.approx(sum(sorted(scores)[-count:]) / count)
    assert min(scores) <= found.score <= max(scores) + 1e-9


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=1))
def test_a_frame_scores_as_its_worst_face(faces: list[tuple[int, float]]) -> None:
    frames = aggregate.per_frame([(float(seconds), score) for seconds, score in faces])
    assert [seconds for seconds, _ in frames] == sorted({float(seconds) for seconds, _ in faces})
    assert all(score == max(one for at, one in faces if at == seconds) for seconds, score in frames)


def test_nothing_cannot_be_summed_up() -> None:
    for wrong in (lambda: aggregate.summarise([], 0.5), lambda: aggregate.fuse([])):
        with pytest.raises(ValueError):
            wrong()


def test_the_record_of_an_upload_can_be_written_down(house: House) -> None:
    house.add("drawn", gain=0.0, bias=1.0)
    signal = house.look(house.standings("drawn"), [sample(n / 2) for n in range(16)])
    evidence = [one.to_dict() for one in (*clean_upload(), signal)]
    assert json.loads(canonical(evidence)) == evidence
