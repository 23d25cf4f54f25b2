"""Every mask, upscaler, filter and enhancer: installed on a graph of its contract, refused by licence or graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.worker import neural_graphs as graphs
from worker.inference import registry
from worker.inference.store import ModelStore
from worker.inference.types import ModelError

ROLES = ("face_occluder", "face_parser", "frame_upscaler", "content_filter", "face_enhancer", "age")
KNOWN = {name: one for name, one in registry.operator_models().items() if one.card.role in ROLES}


def quiet(_words: str, _share: float) -> None:
    pass


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "own", tmp_path / "cache")


@pytest.mark.parametrize("name", KNOWN)
def test_an_entry_is_installed_once_its_licence_allows_it(store, tmp_path, name):
    path = tmp_path / "published.onnx"
    onnx.save(graphs.graph_of(name), path)
    card = KNOWN[name].card
    if not card.commercial_use:
        with pytest.raises(ModelError) as refused:
            store.add_file(path, name, quiet, pin=True)
        assert refused.value.code == "licence_not_accepted"
        assert card.licence in refused.value.message
        store.accept_licence(name, "a written licence", "ada")
    assert store.add_file(path, name, quiet, pin=True).state == "good"
    found = store.models().card(name)
    assert (found.role, found.contract, found.batches) == (card.role, card.contract, True)


@pytest.mark.parametrize("role", ROLES)
def test_a_graph_of_another_kind_is_refused(store, tmp_path, role):
    name = next(one for one in KNOWN if KNOWN[one].card.role == role and KNOWN[one].card.commercial_use)
    other = "gfpgan_1.4" if role != "face_enhancer" else "nsfw_2"
    path = tmp_path / "published.onnx"
    onnx.save(graphs.graph_of(other), path)
    with pytest.raises(ModelError) as refused:
        store.add_file(path, name, quiet, pin=True)
    assert refused.value.code == "model_unfit"
    assert store.models().extra == {}


@pytest.mark.parametrize("name", ["xseg_1", "bisenet_resnet_34"])
def test_the_names_of_a_published_files_tensors_do_not_matter(store, tmp_path, name):
    graph = graphs.graph_of(name)
    graph.graph.node[-1].output[0] = graph.graph.output[0].name = "out_mask:0"
    for node in graph.graph.node:
        node.input[:] = ["in_face:0" if one == "input" else one for one in node.input]
    graph.graph.input[0].name = "in_face:0"
    path = tmp_path / "published.onnx"
    onnx.save(graph, path)
    assert store.add_file(path, name, quiet, pin=True).state == "good"


def test_licences_are_those_that_the_publishers_name():
    licences = {name: (one.card.licence, one.card.commercial_use) for name, one in KNOWN.items()}
    for name, wanted in {
        "xseg_1": ("GPL-3.0", True),
        "xseg_2": ("GPL-3.0", True),
        "xseg_3": ("GPL-3.0", True),
        "bisenet_resnet_18": ("MIT", True),
        "bisenet_resnet_34": ("MIT", True),
        "fairface": ("CC-BY-4.0", True),
        "nsfw_1": ("Apache-2.0", True),
        "nsfw_2": ("Apache-2.0", True),
        "nsfw_3": ("MIT", True),
        "gfpgan_1.4": ("Apache-2.0", True),
        "restoreformer_plus_plus": ("Apache-2.0", True),
        "codeformer": ("S-Lab-1.0", False),
        "gpen_bfr_512": ("Non-Commercial", False),
        "real_esrgan_x4": ("BSD-3-Clause", True),
        "clear_reality_x4": ("Non-Commercial", False),
        "ultra_sharp_x4": ("Non-Commercial", False),
        "span_kendata_x4": ("Non-Commercial", False),
    }.items():
        assert licences[name] == wanted
