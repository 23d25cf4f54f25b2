"""The registry says where each model comes from and whether it may be used."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from worker.inference import registry, topology
from worker.inference.types import ModelError


def test_the_built_in_set_is_registered_with_pinned_hashes_and_free_licences():
    assert list(registry.cards()) == ["blazeface_short", "blazeface_full", "face_mesh", "face_descriptor"]
    for card in registry.cards().values():
        pinned = [card.sha256, *(s.sha256 for s in card.sources), *(s.package.sha256 for s in card.sources)]
        assert all(len(digest) == 64 and int(digest, 16) > 0 for digest in pinned)
        assert card.commercial_use
        assert card.licence in {"Apache-2.0", "CC0-1.0"}
        assert card.licence_url.startswith("https://")


def test_an_unknown_model_is_a_typed_error_that_names_the_known_ones(tmp_path):
    with pytest.raises(ModelError, match="face_mesh") as caught:
        registry.model_path(tmp_path, "../../etc/passwd")
    assert caught.value.code == "model_missing"


def test_the_name_of_the_model_set_changes_with_any_file(monkeypatch):
    import dataclasses

    before = registry.model_set_id()
    cards = dict(registry.cards())
    cards["face_mesh"] = dataclasses.replace(cards["face_mesh"], sha256="0" * 64)
    monkeypatch.setattr(registry, "_CARDS", cards)
    assert registry.model_set_id() != before


def test_the_mesh_triangles_are_a_sheet_whose_rims_are_exactly_the_named_rings():
    mesh = topology.load()
    sides: dict[frozenset[int], int] = {}
    for a, b, c in mesh["triangles"]:
        for side in ((a, b), (b, c), (c, a)):
            sides[frozenset(side)] = sides.get(frozenset(side), 0) + 1
    assert len(mesh["triangles"]) == 852
    assert set(sides.values()) == {1, 2}
    rims = {side for side, uses in sides.items() if uses == 1}
    rings = [mesh[name] for name in ("oval", "left_eye", "right_eye", "lips_inner")]
    assert rims == {frozenset(side) for ring in rings for side in pairwise([*ring, ring[0]])}


def test_the_committed_topology_is_written_by_its_own_writer():
    text = topology.TOPOLOGY_PATH.read_text("ascii")
    assert topology.dump(json.loads(text)) == text


def test_edges_that_do_not_close_a_triangle_are_refused():
    with pytest.raises(ValueError, match="do not close"):
        topology.extract("FACEMESH_TESSELATION = frozenset([(1, 2), (2, 3), (3, 4)])\n")


def test_the_id_of_a_model_set_names_its_files_and_the_precision_in_use():
    builtin = registry.BUILTIN
    assert builtin.id() == registry.model_set_id() == builtin.id({"face_mesh": "fp32"})
    assert builtin.id({"face_mesh": "fp16", "blazeface_short": "fp32"}) == f"{builtin.id()}+face_mesh:fp16"
    fan = registry.operator_models()["2dfan4"].card
    one, other = (registry.ModelSet({"2dfan4": replace(fan, sha256=digit * 64)}) for digit in "01")
    assert one.id().startswith("extended-")
    assert len({one.id(), other.id(), builtin.id()}) == 3
    assert one.only(["2dfan4"]).id() == one.id()
    assert one.only(["yunet"]).id() == builtin.id()
