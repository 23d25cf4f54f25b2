"""A lower precision is used only where a record says that exactly this file passed its gate, here and now."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.worker.inference import lowering
from worker.inference import accuracy, precision, proof, quantise, registry, samples
from worker.inference.client import connect
from worker.inference.opening import Opener
from worker.inference.quantise import QuantiseError, SampleSet
from worker.inference.sessions import LocalRunner
from worker.inference.types import ModelError
from worker.pipeline import calibration


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def card(folder, monkeypatch):
    return lowering.put(folder, monkeypatch, lowering.build())


def lower(folder, card, wanted="fp16", policy=None, sets=None, **options):
    trial = LocalRunner(folder, precisions={})
    return quantise.quantise(
        folder,
        card,
        wanted,
        sets or lowering.sample_set(),
        lambda data: trial.open_trial(card, data),
        policy=policy or lowering.policy(),
        **options,
    )


def opened(folder, policy=None):
    """The precision in which a fresh runner opens the model."""
    given = policy or lowering.policy()
    return lowering.runner(folder, {lowering.NAME: given}).load(lowering.NAME).precision


def record_of(outcome):
    (path,) = outcome.path.parent.glob(f"{outcome.path.stem}.cpu-*.json")
    return path


def failed(outcome):
    return {line.metric for line in outcome.lines if not line.passed}


def test_a_file_that_passed_is_used_and_its_results_are_float32_near_the_full_ones(folder, card):
    outcome = lower(folder, card)
    assert outcome.record.passed
    assert outcome.size_lower < outcome.size_full
    assert opened(folder) == "fp16"
    inputs = lowering.sample_set().gate
    now = lowering.runner(folder, {lowering.NAME: lowering.policy()}).run(lowering.NAME, inputs)["picture"]
    full = lowering.runner(folder, {}).run(lowering.NAME, inputs)["picture"]
    assert now.dtype == np.float32
    assert 0 < np.abs(now - full).max() < 0.01


def test_without_a_file_the_model_runs_in_float32_and_the_log_says_what_to_do(folder, card, caplog):
    assert opened(folder) == "fp32"
    assert "models quantise painter" in caplog.text


def test_what_is_required_and_not_proven_is_an_error_and_not_a_silent_fall_back(folder, card):
    with pytest.raises(ModelError, match="models quantise") as caught:
        opened(folder, lowering.policy(mode="require"))
    assert caught.value.code == "precision_unproven"
    lower(folder, card)
    assert opened(folder, lowering.policy(mode="require")) == "fp16"


def test_a_precision_that_nobody_wants_there_is_not_used_though_it_passed(folder, card):
    lower(folder, card)
    assert opened(folder, lowering.policy(wanted={"cuda": "fp16"})) == "fp32"


def test_int8_by_calibration_passes_or_fails_by_the_limits(folder, card):
    gentle = lowering.policy(wanted={"cpu": "int8"}, limits=accuracy.Limits({}, {"psnr_worst_db": 20.0}))
    outcome = lower(folder, card, "int8", gentle)
    assert outcome.record.passed
    assert opened(folder, gentle) == "int8"
    operators = {node.op_type for node in onnx.load(outcome.path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    scales = [len(w.dims) for w in onnx.load(outcome.path).graph.initializer if w.data_type == TensorProto.INT8]
    assert scales
    strict = dataclasses.replace(gentle, limits=accuracy.Limits({}, {"psnr_worst_db": 90.0}))
    again = lower(folder, card, "int8", strict)
    assert again.path is None
    assert failed(again) == {"psnr_worst_db"}


def test_the_weights_of_int8_have_a_scale_for_each_channel(folder, card):
    gentle = lowering.policy(wanted={"cpu": "int8"}, limits=accuracy.Limits({}, {"psnr_worst_db": 20.0}))
    graph = onnx.load(lower(folder, card, "int8", gentle).path).graph
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    lengths = [
        weights[node.input[1]].size
        for node in graph.node
        if node.op_type == "DequantizeLinear" and weights.get(node.input[0], np.zeros(0)).ndim == 4
    ]
    assert lengths == [8, 3]


def test_a_broken_quantisation_is_refused_and_leaves_no_file(folder, card, monkeypatch):
    made = quantise.to_int8

    def with_a_wrong_scale(*arguments):
        model = onnx.load_from_string(made(*arguments))
        node = next(node for node in model.graph.node if node.op_type == "DequantizeLinear")
        scale = next(weight for weight in model.graph.initializer if weight.name == node.input[1])
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(3), scale.name))
        return model.SerializeToString()

    gentle = lowering.policy(wanted={"cpu": "int8"}, limits=accuracy.Limits({}, {"psnr_worst_db": 20.0}))
    monkeypatch.setattr(quantise, "to_int8", with_a_wrong_scale)
    outcome = lower(folder, card, "int8", gentle)
    assert failed(outcome) == {"psnr_worst_db"}
    assert outcome.path is None
    assert not list(folder.glob("*.int8.*.onnx"))
    assert opened(folder, gentle) == "fp32"


def test_an_overflow_of_float16_is_caught_and_the_keep_list_heals_it(folder, monkeypatch):
    card = lowering.put(folder, monkeypatch, lowering.build(gain=1e6))
    outcome = lower(folder, card)
    assert accuracy.NOT_FINITE in failed(outcome)
    assert opened(folder) == "fp32"
    assert lower(folder, card, keep=("loud", "calm")).record.passed
    assert opened(folder) == "fp16"


def test_the_policy_s_keep_list_counts_without_being_named_again(folder, monkeypatch):
    card = lowering.put(folder, monkeypatch, lowering.build(gain=1e6))
    assert lower(folder, card, policy=lowering.policy(keep={"fp16": ("op:Mul",)})).record.passed


def test_int8_leaves_kept_nodes_in_float32(folder, card):
    gentle = lowering.policy(wanted={"cpu": "int8"}, limits=accuracy.Limits({}, {"psnr_worst_db": 20.0}))
    graph = onnx.load(lower(folder, card, "int8", gentle, keep=("felt",)).path).graph
    weights = [w.data_type for w in graph.initializer if len(w.dims) == 4]
    assert sorted(weights) == sorted([TensorProto.FLOAT, TensorProto.INT8])


def test_a_kept_node_that_does_not_exist_is_named(folder, card):
    with pytest.raises(QuantiseError, match="'nothing'") as caught:
        lower(folder, card, keep=("nothing",))
    assert caught.value.code == "unknown_node"
    assert {path.name for path in folder.iterdir()} == {"painter.onnx"}


def test_a_keep_list_names_nodes_by_name_by_type_and_by_a_part_of_the_name():
    model = lowering.build()
    assert quantise.resolve(model, ("loud",)) == {"loud"}
    assert quantise.resolve(model, ("op:Mul",)) == {"loud", "calm"}
    assert quantise.resolve(model, ("l*",)) == {"lit", "loud"}
    assert quantise.resolve(model, ("*l*d", "felt")) == {"loud", "felt"}
    for nothing in ("op:Gemm", "l", "x*", "[lm]oud"):
        with pytest.raises(QuantiseError):
            quantise.resolve(model, (nothing,))


def test_a_file_that_gives_no_numbers_at_all_is_refused(folder, card, monkeypatch):
    broken = lowering.build()
    broken.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((8, 3, 3, 3), np.nan, np.float32), broken.graph.initializer[0].name)
    )
    monkeypatch.setattr(quantise, "halve", lambda *_: broken.SerializeToString())
    outcome = lower(folder, card)
    assert outcome.problem
    assert outcome.path is None


def test_an_edited_record_is_not_believed(folder, card, caplog):
    path = record_of(lower(folder, card))
    content = json.loads(path.read_text())
    content["record"]["metrics"]["psnr_worst_db"] = 99.0
    path.write_text(json.dumps(content))
    assert opened(folder) == "fp32"
    assert "was edited" in caplog.text


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"record": {"model": "painter"}, "checksum": ""}'])
def test_a_damaged_record_is_not_believed(folder, card, text):
    record_of(lower(folder, card)).write_text(text)
    assert opened(folder) == "fp32"


def test_a_record_that_says_passed_beside_metrics_that_do_not_is_not_believed(folder, card):
    outcome = lower(folder, card)
    lie = dataclasses.replace(outcome.record, metrics={**outcome.record.metrics, "psnr_worst_db": 12.0})
    record_of(outcome).write_bytes(lie.sealed())
    assert opened(folder) == "fp32"


@pytest.mark.parametrize("change", [{"metrics": {"psnr_worst_db": "many"}}, {"metrics": 4}, {"recipe": "none"}])
def test_a_sealed_record_of_other_types_is_not_believed(folder, card, change):
    outcome = lower(folder, card)
    record_of(outcome).write_bytes(dataclasses.replace(outcome.record, **change).sealed())
    assert opened(folder) == "fp32"


def test_a_changed_file_is_not_used(folder, card, caplog):
    path = lower(folder, card).path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert opened(folder) == "fp32"
    assert "that of another file" in caplog.text


def test_a_record_does_not_serve_for_another_file(folder, card):
    outcome = lower(folder, card)
    twin = outcome.path.with_name(f"painter.fp16.{'0' * 16}.onnx")
    data = quantise.halve((folder / "painter.onnx").read_bytes(), ("loud",))
    twin.write_bytes(data)
    shutil.move(record_of(outcome), proof.record_path(folder, twin.stem, "cpu"))
    outcome.path.unlink()
    assert opened(folder) == "fp32"


def test_a_record_does_not_serve_for_another_version_of_the_model(folder, card, monkeypatch, caplog):
    lower(folder, card)
    lowering.put(folder, monkeypatch, lowering.build(seed=8))
    assert opened(folder) == "fp32"
    assert "another version" in caplog.text


def test_a_session_is_opened_under_the_hash_of_its_own_bytes(folder, card, monkeypatch):
    outcome = lower(folder, card)
    asked: list[tuple[str, str]] = []
    open_on_cpu = Opener._open_on_cpu

    def noting(self, card, data):
        asked.append((card.sha256, hashlib.sha256(data).hexdigest()))
        return open_on_cpu(self, card, data)

    monkeypatch.setattr(Opener, "_open_on_cpu", noting)
    assert opened(folder) == "fp16"
    assert asked == [(outcome.record.file_sha256, outcome.record.file_sha256)]


def test_stricter_limits_count_at_once(folder, card):
    lower(folder, card)
    assert opened(folder, lowering.policy(limits=accuracy.Limits({}, {"psnr_worst_db": 119.0}))) == "fp32"


def test_a_file_that_passed_elsewhere_is_tried_here_once_and_the_result_is_kept(folder, card, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(proof, "place", lambda device: f"{device} of another machine")
        outcome = lower(folder, card)
    here = proof.record_path(folder, outcome.path.stem, "cpu")
    assert not here.exists()
    assert "when it is first opened here" in precision.state(
        folder, card, "cpu", policies={lowering.NAME: lowering.policy()}
    )
    assert opened(folder) == "fp16"
    record = proof.read_record(here)
    assert record.passed
    assert record.place == proof.place("cpu")
    before = here.stat().st_mtime_ns
    assert opened(folder) == "fp16"
    assert here.stat().st_mtime_ns == before


def test_a_file_that_passed_elsewhere_and_fails_here_is_refused_until_it_is_made_again(folder, card, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(proof, "place", lambda device: f"{device} of another machine")
        outcome = lower(folder, card)
    with monkeypatch.context() as broken:
        broken.setattr(precision, "try_out", lambda *_: {accuracy.SAMPLES: 12, accuracy.NOT_FINITE: 5})
        assert opened(folder) == "fp32"
    assert not proof.read_record(proof.record_path(folder, outcome.path.stem, "cpu")).passed
    assert opened(folder) == "fp32"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(proof, "place", lambda device: f"{device} of another machine")
        lower(folder, card)  # made and signed off again, so it is tried here again
    assert opened(folder) == "fp16"


def test_samples_that_were_exchanged_prove_nothing_elsewhere(folder, card, monkeypatch, caplog):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(proof, "place", lambda device: f"{device} of another machine")
        outcome = lower(folder, card)
    easy = {"image": np.zeros((12, *lowering.SHAPE), np.float32)}
    proof.samples_path(folder, outcome.path.stem).write_bytes(samples.dump(easy))
    assert opened(folder) == "fp32"
    assert "samples to try it with" in caplog.text


def test_a_trial_that_fails_later_withdraws_the_file(folder, card):
    lower(folder, card)
    assert (
        lower(folder, card, policy=lowering.policy(limits=accuracy.Limits({}, {"psnr_worst_db": 119.0}))).path is None
    )
    assert opened(folder) == "fp32"


def test_a_new_recipe_replaces_the_old_file_only_when_it_passed(folder, card):
    first = lower(folder, card).path
    impossible = lowering.policy(limits=accuracy.Limits({}, {"psnr_worst_db": 119.0}))
    assert lower(folder, card, policy=impossible, keep=("lit",)).path is None
    assert first.exists()
    second = lower(folder, card, keep=("felt",)).path
    assert [path.name for path in folder.glob("*.fp16.*.onnx")] == [second.name]
    assert len(list(folder.glob("*.fp16.*"))) == 3  # the file, its record, its samples
    assert opened(folder) == "fp16"


@pytest.mark.parametrize("wanted", ["fp16", "int8"])
def test_equal_recipes_give_equal_files(folder, card, wanted):
    gentle = lowering.policy(limits=accuracy.Limits({}, {"psnr_worst_db": 20.0}))
    first, second = (lower(folder, card, wanted, gentle) for _ in range(2))
    assert first.path == second.path
    assert first.record.file_sha256 == second.record.file_sha256


def test_a_gate_with_too_few_samples_proves_nothing(folder, card):
    few = {"image": lowering.sample_set().gate["image"][:3]}
    outcome = lower(folder, card, sets=SampleSet(few, few, few))
    assert failed(outcome) == {"samples"}


def test_a_model_without_samples_or_without_a_gate_is_refused_with_a_reason(folder, card):
    with pytest.raises(QuantiseError) as caught:
        lower(folder, card, sets=SampleSet({}, {}, {}))
    assert caught.value.code == "samples_invalid"
    with pytest.raises(QuantiseError) as caught:
        quantise.quantise(folder, card, "fp16", lowering.sample_set(), lambda _: None)
    assert caught.value.code == "no_gate"


def test_only_the_registered_file_is_made_lower(folder, card):
    (folder / "painter.onnx").write_bytes(lowering.build(seed=9).SerializeToString())
    with pytest.raises(ModelError) as caught:
        lower(folder, card)
    assert caught.value.code == "model_hash_mismatch"


def test_a_folder_that_cannot_be_written_is_a_typed_error_and_leaves_nothing(folder, card, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ModelError) as caught:
        lower(folder, card)
    assert caught.value.code == "write_failed"
    assert {path.name for path in folder.iterdir()} == {"painter.onnx", ".build.lock"}


def test_the_shipped_policy_names_every_registered_model_and_wants_float32_on_the_cpu():
    assert set(registry.cards()) <= set(precision.policies())
    for policy in precision.policies().values():
        assert policy.wanted_on("cpu") == "fp32"
        assert policy.wanted_on("cuda") == "fp16"
        assert policy.limits.at_least["samples"] >= 12


@pytest.mark.parametrize(
    "change", [('mode = "prefer"', 'mode = "hope"'), ('"fp16"', '"fp8"'), ('gate = "detector"', 'gate = "nose"')]
)
def test_a_malformed_policy_is_refused(tmp_path, change):
    text = precision.POLICY_PATH.read_text("utf-8")
    path = tmp_path / "precision.toml"
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ValueError):
        precision.read_policies(path)


def test_a_running_engine_opens_what_its_policy_file_wants_and_is_proven(
    models_dir, tmp_path, monkeypatch, start_engine, noise
):
    folder = tmp_path / "built"
    shutil.copytree(models_dir, folder)
    card = registry.card("blazeface_short")
    trial = LocalRunner(folder, precisions={})
    drawn = calibration.collect(trial, drawn=12).gate["blazeface_short"]
    sets = SampleSet(drawn, drawn, drawn)
    assert quantise.quantise(folder, card, "fp16", sets, lambda data: trial.open_trial(card, data)).record.passed
    wish = tmp_path / "wish.toml"
    wish.write_text('[models.blazeface_short]\nwanted = { cpu = "fp16" }\n')
    monkeypatch.setenv("IMPRIMATUR_PRECISION", str(wish))
    client = connect(start_engine(models_dir=folder))
    try:
        inputs = noise("blazeface_short")
        found = client.run("blazeface_short", inputs)["regressors"]
    finally:
        client.close()
    full = trial.run("blazeface_short", inputs)["regressors"]
    policies = precision.read_policies(precision.POLICY_PATH, wish)
    lowered = LocalRunner(folder, precisions=policies).run("blazeface_short", inputs)["regressors"]
    np.testing.assert_array_equal(found, lowered)
    assert found.dtype == np.float32
    assert np.abs(found - full).max() > 0


@pytest.mark.parametrize("name", ["hyperswap_1a_256", "inswapper_128"])
def test_a_policy_speaks_of_a_pictures_values_although_it_comes_as_bytes(name):
    """Clipped to the range of its values, two pictures of bytes would nearly always be the same."""
    card = registry.operator_models()[name].card
    picture = np.full((1, *card.contract.outputs["output"]), 100, np.uint8)

    class Giving:
        def __init__(self, outputs: np.ndarray) -> None:
            self.outputs = outputs

        def run(self, _names: object, _inputs: object) -> list[np.ndarray]:
            return [self.outputs]

    reader = precision.policies()[name].reader
    inputs = {"target": np.zeros((12, 1), np.uint8)}
    for apart in (1, 10):
        metrics = precision.try_out(Giving(picture), Giving(picture + np.uint8(apart)), card, reader, inputs)
        assert metrics["psnr_worst_db"] == pytest.approx(20 * np.log10(255 / apart), abs=0.01)
    floats = precision.try_out(Giving(picture), Giving(picture.astype(np.float32)), card, reader, inputs)
    assert floats[accuracy.NOT_FINITE] > 0
