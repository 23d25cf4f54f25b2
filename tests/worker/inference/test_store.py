"""An operator's models: installed only when hash, graph and licence are right, and nothing half-written otherwise."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from django.core.management import CommandError, call_command

from tests.worker import neural_graphs as graphs
from tests.worker.inference.model_host import ModelHost, model_host
from worker.inference import downloads, registry
from worker.inference.store import ModelStore
from worker.inference.types import ModelError

FREE, BOUND = "gfpgan_1.4", "inswapper_128"  # by licence


def quiet(_words: str, _share: float) -> None:
    pass


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def data() -> dict[str, bytes]:
    """Published files by name: tiny graphs with the exact tensors."""
    return {
        FREE: graphs.enhancer().SerializeToString(),
        BOUND: graphs.swapper(128, emap=graphs.np.eye(512, dtype="float32")).SerializeToString(),
    }


@pytest.fixture
def host(data: dict[str, bytes]) -> Iterator[ModelHost]:
    with model_host() as one:
        one.files |= {f"{name}.onnx": content for name, content in data.items()}
        yield one


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "own", tmp_path / "cache")


def left(store: ModelStore) -> list[str]:
    """Files beside the record and the locks."""
    names = (str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.endswith((".lock", "store.json")))


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSE", 0.0)


def refused(code: str) -> Any:
    return pytest.raises(ModelError, check=lambda error: error.code == code)


def test_install_by_a_named_hash_then_the_engine_can_have_it(store, host, data):
    standing = store.install(FREE, quiet, mirror=host.url, sha256=sha256(data[FREE]))
    assert (standing.state, standing.pin.by) == ("good", "operator")
    models = store.models()
    assert list(models.extra) == [FREE]
    assert models.card(FREE).original == sha256(data[FREE])
    assert left(store) == [f"{FREE}.onnx"]


def test_an_unknown_hash_waits_for_the_operators_word_and_is_then_kept_to(store, host, data):
    with refused("hash_unknown") as error:
        store.install(FREE, quiet, mirror=host.url)
    assert sha256(data[FREE]) in error.value.message
    assert store.models().extra == {}
    host.asked.clear()
    assert store.install(FREE, quiet, mirror=host.url, pin=True).pin.by == "first use"
    assert not host.asked  # it had arrived already
    store.remove(FREE)
    host.files[f"{FREE}.onnx"] = graphs.enhancer(weight=True).SerializeToString()
    with refused("model_hash_mismatch"):
        store.install(FREE, quiet, mirror=host.url, pin=True)
    assert left(store) == []
    store.forget(FREE)
    assert store.install(FREE, quiet, mirror=host.url, pin=True).state == "good"


def test_a_wrong_hash_leaves_nothing_and_the_installed_file_alone(store, host):
    with refused("model_hash_mismatch"):
        store.install(FREE, quiet, mirror=host.url, sha256="0" * 64)
    assert left(store) == []
    store.install(FREE, quiet, mirror=host.url, pin=True)
    before = (store.folder / f"{FREE}.onnx").read_bytes()
    other = store.folder.parent / "other.onnx"
    other.write_bytes(graphs.enhancer(weight=True).SerializeToString())
    with refused("model_hash_mismatch"):
        store.add_file(other, FREE, quiet, pin=True)
    assert (store.folder / f"{FREE}.onnx").read_bytes() == before


def test_a_truncated_download_is_gone_on_with(store, host, data):
    host.cut_after = [len(data[FREE]) // 2, *[0] * 8]
    with refused("source_unavailable"):
        store.install(FREE, quiet, mirror=host.url, pin=True)
    assert not (store.folder / f"{FREE}.onnx").exists()
    host.cut_after = []
    assert store.install(FREE, quiet, mirror=host.url, sha256=sha256(data[FREE])).state == "good"
    assert host.asked[-1][1] == f"bytes={len(data[FREE]) // 2}-"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(graphs.enhancer(256).SerializeToString(), id="other shape"),
        pytest.param(graphs.swapper(256).SerializeToString(), id="other inputs"),
        pytest.param(graphs.enhancer().SerializeToString()[:-40], id="truncated"),
        pytest.param(b"<html>not found</html>", id="a page"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_graph_that_is_not_what_its_name_says_is_refused(store, host, content):
    host.files[f"{FREE}.onnx"] = content
    with refused("model_unfit"):
        store.install(FREE, quiet, mirror=host.url, pin=True)
    assert left(store) == []
    assert not any(standing.pin for standing in store.standings())


def test_a_bound_licence_is_refused_until_it_is_accepted_with_a_reason(store, host):
    with refused("licence_not_accepted"):
        store.install(BOUND, quiet, mirror=host.url, pin=True)
    assert not host.asked
    with refused("input_invalid"):
        store.accept_licence(BOUND, "  ", "ada")
    store.accept_licence(BOUND, "our written licence", "ada")
    assert store.install(BOUND, quiet, mirror=host.url, pin=True).state == "good"
    record = json.loads((store.folder / "store.json").read_text())
    assert record["licences"][BOUND]["reason"] == "our written licence"
    assert record["licences"][BOUND]["by"] == "ada"
    record["licences"][BOUND]["licence"] = "Another-1.0"  # the registry's licence changed since
    (store.folder / "store.json").write_text(json.dumps(record))
    assert store.models().extra == {}
    assert {one.card.name: one.state for one in store.standings()}[BOUND] == "licence not accepted"


def test_a_file_that_was_dropped_or_altered_is_not_used(store, host, data):
    store.folder.mkdir()
    (store.folder / f"{FREE}.onnx").write_bytes(data[FREE])
    states = {one.card.name: one.state for one in store.standings()}
    assert states[FREE] == "not pinned"
    assert set(states) == set(registry.operator_models())
    assert store.models().extra == {}
    store.install(FREE, quiet, mirror=host.url, pin=True)
    (store.folder / f"{FREE}.onnx").write_bytes(graphs.enhancer(weight=True).SerializeToString())
    assert {one.card.name: one.state for one in store.standings()}[FREE] == "altered"
    assert store.models().extra == {}


def test_import_by_role_finds_the_one_model_with_such_a_graph(store, tmp_path, data):
    path = tmp_path / "anything.onnx"
    path.write_bytes(data[FREE])
    with refused("model_unknown") as error:
        store.add_file(path, "face_enhancer", quiet, pin=True)
    assert "gfpgan_1.4, gfpgan_1.2" in error.value.message  # many have such a graph
    with refused("model_unknown"):
        store.add_file(path, "face_swapper", quiet, pin=True)
    with refused("model_unknown"):
        store.add_file(path, "hat", quiet, pin=True)
    with refused("model_unfit"):
        store.add_file(Path(__file__), "face_enhancer", quiet, pin=True)
    with refused("source_unavailable"):
        store.add_file(tmp_path / "nothing.onnx", FREE, quiet, pin=True)


def test_install_from_a_folder_needs_no_network(store, tmp_path, data):
    with refused("source_unavailable"):
        store.install(FREE, quiet, folder=tmp_path, pin=True)
    (tmp_path / f"{FREE}.onnx").write_bytes(data[FREE])
    assert store.install(FREE, quiet, folder=tmp_path, pin=True).state == "good"


def test_two_installers_at_once_end_with_one_good_file(store, host):
    context = multiprocessing.get_context("fork")
    both = [
        context.Process(target=store.install, args=(FREE, quiet), kwargs={"mirror": host.url, "pin": True})
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0]
    assert len(host.asked) == 1
    assert left(store) == [f"{FREE}.onnx"]


def test_a_damaged_record_stops_all_use_and_says_so(store, host):
    store.install(FREE, quiet, mirror=host.url, pin=True)
    (store.folder / "store.json").write_text("{")
    with refused("record_unreadable"):
        store.models()


def test_unknown_names_are_refused(store):
    for call in (store.remove, store.forget, lambda name: store.install(name, quiet)):
        with refused("model_unknown"):
            call("../../etc/passwd")


def test_every_entry_says_where_it_is_published_and_who_may_use_it():
    for known in registry.operator_models().values():
        assert known.urls
        assert all(url.startswith("https://") and url.endswith("/" + known.file) for url in known.urls)
        assert known.card.licence
        assert known.card.licence_url.startswith("https://")


LICENCES = {
    "Apache-2.0": ("ghost_1_256", "ghost_2_256", "ghost_3_256"),
    "ResearchRAIL": ("hyperswap_1a_256", "hyperswap_1b_256", "hyperswap_1c_256"),
    "Non-Commercial": (
        "inswapper_128",
        "inswapper_128_fp16",
        "simswap_256",
        "simswap_unofficial_512",
        "blendswap_256",
    ),
    "Unknown": ("hififace_unofficial_256", "uniface_256", "crossface_ghost", "crossface_simswap", "crossface_hififace"),
}
"""Of swappers and converters, as their publishers state them; "Unknown" where nobody does."""


@pytest.mark.parametrize(
    ("licence", "name"), [(licence, name) for licence, names in LICENCES.items() for name in names]
)
def test_a_swapper_or_converter_is_installed_under_its_licence(store, tmp_path, licence, name):
    card = registry.operator_models()[name].card
    assert (card.licence, card.commercial_use) == (licence, licence == "Apache-2.0")
    path = tmp_path / f"{name}.onnx"
    onnx.save(graphs.graph_of(name), path)
    if not card.commercial_use:
        with refused("licence_not_accepted"):
            store.add_file(path, name, quiet, pin=True)
        assert left(store) == []
        store.accept_licence(name, "our written licence", "ada")
    assert store.add_file(path, name, quiet, pin=True).state == "good"
    assert list(store.models().extra) == [name]


def test_every_swapper_and_converter_has_its_licence_in_that_table():
    roles = ("face_swapper", "face_converter")
    listed = {name for name, known in registry.operator_models().items() if known.card.role in roles}
    assert {name for names in LICENCES.values() for name in names} == listed


def test_the_command_from_refusal_to_use(settings, tmp_path, host, data):
    settings.OPERATOR_MODELS_DIR = tmp_path / "own"
    settings.MODEL_MIRROR = host.url

    def models(*arguments: str) -> str:
        out = io.StringIO()
        call_command("models", *arguments, stdout=out)
        return out.getvalue()

    with pytest.raises(CommandError, match=r"licence_not_accepted"):
        models("install", BOUND, "--pin")
    assert "REFUSED until" in models("licence")
    assert "because: mine" in models("licence", "accept", BOUND, "--reason", "mine")
    assert "is installed (face_swapper, pinned on first use" in models("install", BOUND, "--pin")
    assert "pinned on first use" in models("list")
    (tmp_path / "in.onnx").write_bytes(data[FREE])
    assert "pinned by you" in models("import", str(tmp_path / "in.onnx"), "--as", FREE, "--sha256", sha256(data[FREE]))
    with pytest.raises(CommandError, match="--as"):
        models("import", str(tmp_path / "in.onnx"))
    with pytest.raises(CommandError, match="--help"):
        models("install")
    (tmp_path / "own" / f"{FREE}.onnx").write_bytes(b"x")
    with pytest.raises(CommandError, match="not used"):
        models("check")
    assert "is removed" in models("remove", FREE, "--forget")
    assert "not installed" in models("list")


def test_a_role_is_matched_by_the_graph_alone(store, tmp_path):
    path = tmp_path / "some.onnx"
    onnx.save(graphs.yunet(), path)
    assert store.add_file(path, "face_detector", quiet, pin=True).card.name == "yunet"


@pytest.mark.parametrize(
    "name",
    ["scrfd_2.5g", "retinaface_10g", "peppa_wutz", "2d106det", "fan_68_5", "arcface_w600k_r50", "auraface_v1"],
)
def test_every_detector_landmark_and_embedding_model_is_installed_as_its_licence_allows(store, host, name):
    known = registry.operator_models()[name]
    host.files[known.file] = graphs.graph_of(name).SerializeToString()
    if not known.card.commercial_use:
        with refused("licence_not_accepted"):
            store.install(name, quiet, mirror=host.url, pin=True)
        assert not host.asked
        store.accept_licence(name, "research of our own", "ada")
    assert store.install(name, quiet, mirror=host.url, pin=True).state == "good"
    assert store.models().card(name).original == sha256(host.files[known.file])
    host.files[known.file] = graphs.enhancer().SerializeToString()
    store.remove(name)
    store.forget(name)
    with refused("model_unfit"):  # another graph than its contract's
        store.install(name, quiet, mirror=host.url, pin=True)
    assert left(store) == []


def test_licences_of_detectors_landmarks_and_embeddings_are_those_of_their_publishers():
    roles = ("face_detector", "face_landmarks", "face_embedding")
    found = {
        name: (known.card.licence, known.card.commercial_use)
        for name, known in registry.operator_models().items()
        if known.card.role in roles
    }
    assert found == {
        "yoloface_8n": ("GPL-3.0", True),
        "yunet": ("MIT", True),
        "scrfd_2.5g": ("Non-Commercial", False),
        "retinaface_10g": ("Non-Commercial", False),
        "2dfan4": ("MIT", True),
        "peppa_wutz": ("Apache-2.0", True),
        "2d106det": ("Non-Commercial", False),
        "fan_68_5": ("OpenRAIL-M", True),
        "arcface_w600k_r50": ("Non-Commercial", False),
        "auraface_v1": ("Apache-2.0", True),
    }
