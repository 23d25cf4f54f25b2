"""Detector packs: what is refused, what is only advisory, what may decide, and with which code."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.worker.gate.pack_graphs import write_graph, write_manifest
from worker.gate.packs import calibration
from worker.gate.packs.pack_store import PackStore
from worker.gate.packs.standing import Evaluation, PackError
from worker.inference import packs
from worker.inference.types import ModelError

SHARED = next(
    (one / "shared" for one in Path(__file__).parents if (one / "shared" / "models").is_dir()), Path("shared")
)


@pytest.fixture
def store(tmp_path: Path) -> PackStore:
    return PackStore(tmp_path / "packs")


def manifest(tmp_path: Path, name: str = "drawn", **changes: str) -> Path:
    write_graph(tmp_path / f"{name}.onnx")
    return write_manifest(tmp_path / f"{name}.toml", **changes)


def calibrated(store: PackStore, name: str) -> calibration.Calibration:
    draw = np.random.default_rng(3)
    fake = draw.random(400) < 0.5
    scores = calibration.sigmoid(draw.normal(size=400) + 3 * fake - 1.5)
    pack = store.standing(name).pack
    assert pack is not None
    made = calibration.calibrate(
        scores, fake, "platt", pack_sha256=pack.sha256, data_sha256="d" * 64, date="2026-11-01T00:00:00+00:00"
    )
    store.keep_calibration(name, made)
    return made


def evaluated(store: PackStore, name: str, **changes: object) -> Evaluation:
    standing = store.standing(name)
    assert standing.pack is not None
    assert standing.calibration is not None
    found = Evaluation(
        pack_sha256=standing.pack.sha256,
        calibration_date=standing.calibration.date,
        data_sha256="e" * 64,
        date="2026-11-02T00:00:00+00:00",
        bpcer=0.05,
        bona_fide_sources=50,
        apcer={"drawn": 0.20, "other": 0.1},
        sources={"drawn": 50, "other": 60},
        auc=0.95,
    )
    found = replace(found, **changes)  # type: ignore[arg-type]
    store.keep_evaluation(name, found)
    return found


def test_the_way_of_a_pack_from_a_file_to_a_say(tmp_path: Path, store: PackStore) -> None:
    assert store.install(manifest(tmp_path), pin=True).code == "not_calibrated"
    calibrated(store, "drawn")
    assert store.standing("drawn").code == "not_evaluated"
    evaluated(store, "drawn")
    standing = store.standing("drawn")
    assert (standing.role, standing.code) == ("advisory", "not_enforced")  # it may, but nobody asked it to
    assert store.enforce("drawn", "Mod").role == "enforcing"
    assert store.enforce("drawn", "Mod").role == "enforcing"
    store.relax("drawn")
    assert store.standing("drawn").role == "advisory"
    store.enforce("drawn", "Mod")
    store.keep_drift("drawn", 0.31, 0.4)
    assert (store.standing("drawn").role, store.standing("drawn").code) == ("advisory", "drifted")
    calibrated(store, "drawn")  # anew: the drift is answered, the evaluation and the say are void
    assert store.standing("drawn").code == "not_evaluated"
    assert store.remove("drawn")
    assert not store.remove("drawn")
    assert store.standings() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bpcer": 0.0501}, "BPCER"),
        ({"bpcer": float("nan")}, "BPCER"),
        ({"apcer": {"drawn": 0.2001, "other": 0.0}}, "APCER of drawn"),
        ({"apcer": {"drawn": float("nan")}, "sources": {"drawn": 50}}, "APCER"),
        ({"sources": {"drawn": 49, "other": 60}}, "sources of drawn"),
        ({"bona_fide_sources": 49}, "bona fide"),
        ({"apcer": {}, "sources": {}}, "no attacks"),
    ],
)
def test_outside_the_bounds_nothing_may_decide(
    tmp_path: Path, store: PackStore, changes: dict[str, object], words: str
) -> None:
    store.install(manifest(tmp_path), pin=True)
    calibrated(store, "drawn")
    evaluated(store, "drawn", **changes)
    with pytest.raises(PackError, match=words) as caught:
        store.enforce("drawn", "Mod")
    assert caught.value.code == "not_allowed_to_enforce"
    assert store.standing("drawn").code == "outside_bounds"


def test_an_evaluation_of_another_file_or_calibration_is_none(tmp_path: Path, store: PackStore) -> None:
    store.install(manifest(tmp_path), pin=True)
    calibrated(store, "drawn")
    evaluated(store, "drawn", pack_sha256="0" * 64)
    assert store.standing("drawn").code == "not_evaluated"
    evaluated(store, "drawn", calibration_date="earlier")
    assert store.standing("drawn").code == "not_evaluated"
    evaluated(store, "drawn")
    assert store.standing("drawn").code == "not_enforced"
    write_graph(tmp_path / "drawn.onnx", gain=2.0)  # another model under the same id
    assert store.install(tmp_path / "drawn.toml", pin=True).code == "not_calibrated"


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        ({"licence": ""}, "pack_licence_missing"),
        ({"commercial_use": ""}, "pack_licence_missing"),
        ({"licence": '""'}, "pack_licence_missing"),
        ({"commercial_use": '"perhaps"'}, "pack_malformed"),
        ({"kind": '"truth"'}, "pack_malformed"),
        ({"id": '"../up"'}, "pack_malformed"),
        ({"file": '"../drawn.onnx"'}, "pack_malformed"),
        ({"format": "2"}, "pack_malformed"),
        ({"species": "[]"}, "pack_malformed"),
        ({"sha256": f'"{"0" * 64}"', "size": "10"}, "model_hash_mismatch"),
        ({"sha256": '"zz"', "size": "10"}, "pack_malformed"),
        ({"extra": "[run]\nseconds = 0"}, "pack_malformed"),
        ({"extra": "[run]\nbatch = 0"}, "pack_malformed"),
        ({"extra": "= broken"}, "pack_malformed"),
    ],
)
def test_what_is_wrong_with_a_manifest_has_its_code_and_nothing_is_installed(
    tmp_path: Path, store: PackStore, harm: dict[str, str], code: str
) -> None:
    with pytest.raises(ModelError) as caught:
        store.install(manifest(tmp_path, **harm), pin=True)
    assert caught.value.code == code
    assert store.standings() == []
    assert not [path for path in store.folder.glob("*") if path.is_dir()]


def test_a_hash_that_nobody_wrote_down_wants_somebodys_word(tmp_path: Path, store: PackStore) -> None:
    path = manifest(tmp_path)
    with pytest.raises(PackError) as caught:
        store.install(path)
    assert caught.value.code == "hash_unknown"
    with pytest.raises(ModelError) as wrong:
        store.install(path, sha256="0" * 64)
    assert wrong.value.code == "model_hash_mismatch"
    digest = packs.sha256_of(tmp_path / "drawn.onnx")
    assert store.install(path, sha256=digest).pack.sha256 == digest  # type: ignore[union-attr]


def test_a_licence_without_commercial_use_wants_a_reason(tmp_path: Path, store: PackStore) -> None:
    path = manifest(tmp_path, licence='"research only"', commercial_use="false")
    with pytest.raises(PackError) as caught:
        store.install(path, pin=True)
    assert caught.value.code == "licence_not_accepted"
    assert store.install(path, pin=True, reason="our letter of May").code == "not_calibrated"
    # The word holds for this wording of the licence only.
    write_manifest(path, licence='"no use at all"', commercial_use="false")
    with pytest.raises(PackError):
        store.install(path, pin=True)


def test_a_file_that_is_altered_later_is_refused_and_a_say_is_not_forgotten(tmp_path: Path, store: PackStore) -> None:
    store.install(manifest(tmp_path), pin=True)
    calibrated(store, "drawn")
    evaluated(store, "drawn")
    store.enforce("drawn", "Mod")
    model = store.folder / "drawn" / packs.MODEL
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    standing = store.standing("drawn")
    assert (standing.role, standing.code, standing.wanted) == ("refused", "model_hash_mismatch", True)
    model.unlink()
    assert store.standing("drawn").code == "pack_missing"
    (store.folder / "drawn" / packs.INSTALLED).write_text("{}")
    (standing,) = store.standings()
    assert (standing.role, standing.code, standing.wanted) == ("refused", "pack_licence_missing", True)
    shutil.rmtree(store.folder / "drawn")
    (standing,) = store.standings()
    assert (standing.kind, standing.code, standing.wanted) == ("face_forgery", "pack_missing", True)


def test_a_record_that_cannot_be_read_stops_all(tmp_path: Path, store: PackStore) -> None:
    store.install(manifest(tmp_path), pin=True)
    (store.folder / "packs.json").write_text("[")
    with pytest.raises(PackError) as caught:
        store.standings()
    assert caught.value.code == "record_unreadable"


@pytest.mark.parametrize(("name", "kind"), [("other", "x"), ("", "y"), ("../etc", "z")])
def test_an_unknown_pack_is_told_so(store: PackStore, name: str, kind: str) -> None:
    with pytest.raises(PackError) as caught:
        store.standing(name)
    assert caught.value.code == "pack_unknown"


def test_a_graph_that_does_not_keep_its_manifest_is_refused(tmp_path: Path, store: PackStore) -> None:
    path = manifest(tmp_path)
    text = path.read_text()
    for change in (("side = 16", "side = 32"), ('"logit"\nvalues', '"other"\nvalues'), ('"picture"', '"image"')):
        path.write_text(text.replace(*change))
        with pytest.raises(ModelError) as caught:
            store.install(path, pin=True)
        assert caught.value.code == "model_unfit"
    (tmp_path / "drawn.onnx").write_bytes(b"no graph")
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        store.install(path, pin=True)
    assert caught.value.code == "model_unfit"


def test_a_graph_for_one_picture_is_run_one_by_one(tmp_path: Path, store: PackStore) -> None:
    write_graph(tmp_path / "single.onnx", batch=1)
    pack = store.install(write_manifest(tmp_path / "single.toml"), pin=True).pack
    assert pack is not None
    assert not pack.batches
    assert not pack.model_card().batches


def test_an_installed_manifest_reads_back_as_it_was(tmp_path: Path) -> None:
    for path in packs.shipped().values():
        pack = replace(packs.read(path), sha256="a" * 64, size=5)
        copy = tmp_path / f"{pack.id}.json"
        copy.write_text(pack.to_json())
        assert packs.read(copy) == pack


@pytest.mark.parametrize("harm", ["plus = []", "plus = [1]", "plus = [0]\nminus = [-1]", "plus = [0]\nabove = inf"])
def test_a_vote_counts_only_what_is_there(tmp_path: Path, store: PackStore, harm: str) -> None:
    path = manifest(tmp_path)
    text = path.read_text().replace('"face_forgery"', '"nsfw"').replace('"face"', '"letterbox"')
    path.write_text(text.replace('form = "logit"', 'form = "vote"\nplus = [0]'))
    standing = store.install(path, pin=True)
    assert (standing.role, standing.code) == ("voting", "")
    path.write_text(text.replace('form = "logit"', f'form = "vote"\n{harm}'))
    with pytest.raises(ModelError) as caught:
        store.install(path, pin=True)
    assert caught.value.code == "pack_malformed"


def test_the_shipped_manifests_are_ready_and_honest() -> None:
    found = {name: packs.read(path) for name, path in packs.shipped().items()}
    detectors = {"community_forensics", "gend", "meso4_df", "sbi", "universal_fake_detect"}
    assert set(found) == {*detectors, "nsfw_1", "nsfw_2", "nsfw_3"}
    assert all(name == pack.id and pack.card and pack.known_failures and pack.weights for name, pack in found.items())
    assert not found["sbi"].commercial_use
    assert not found["gend"].commercial_use
    assert "Weak" in found["meso4_df"].card


@pytest.mark.skipif(not (SHARED / "models" / "meso4_df.onnx").exists(), reason="the shared models are not here")
def test_mesonet_installs_from_its_shipped_manifest_and_is_advisory(store: PackStore) -> None:
    standing = store.install("meso4_df", model=SHARED / "models" / "meso4_df.onnx")
    assert (standing.role, standing.code) == ("advisory", "not_calibrated")
