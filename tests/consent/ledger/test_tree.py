"""The tree is the one of RFC 9162: its own example, Certificate Transparency's vectors, and a naive reference."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.ledger import tree

# The leaves and roots of Certificate Transparency's reference tests.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"


class Stored:
    """A stored tree in memory, by leaf hashes."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self.hashes = list(hashes)

    def node(self, level: int, index: int) -> bytes:
        width = 1 << level
        assert (index + 1) * width <= len(self.hashes), "only complete subtrees are asked for"
        return naive(self.hashes[index * width : (index + 1) * width])


def naive(hashes: Sequence[bytes]) -> bytes:
    """MTH as section 2.1.1 writes it."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + naive(hashes[:split]) + naive(hashes[split:])).digest()


def naive_path(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """PATH as section 2.1.3.1 writes it."""
    if len(hashes) == 1:
        return []
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if index < split:
        return [*naive_path(index, hashes[:split]), naive(hashes[split:])]
    return [*naive_path(index - split, hashes[split:]), naive(hashes[:split])]


def naive_proof(old: int, hashes: Sequence[bytes], known: bool = True) -> list[bytes]:
    """SUBPROOF as section 2.1.4.1 writes it."""
    if old == len(hashes):
        return [] if known else [naive(hashes)]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if old <= split:
        return [*naive_proof(old, hashes[:split], known), naive(hashes[split:])]
    return [*naive_proof(old - split, hashes[split:], False), naive(hashes[:split])]


HASHES = [tree.leaf_hash(leaf) for leaf in LEAVES]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert tree.root_of(HASHES[:size]).hex() == ROOTS[size]
    assert tree.root(size, Stored(HASHES).node).hex() == ROOTS[size]


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [(0, 1, []), (0, 8, [A, B, C]), (5, 8, [D, E, ROOTS[4]]), (2, 3, [ROOTS[2]]), (1, 5, [ROOTS[1], B, D])],
)
def test_inclusion_proofs_are_those_of_certificate_transparency(index: int, size: int, path: list[str]) -> None:
    found = tree.inclusion(index, size, Stored(HASHES).node)
    assert [step.hex() for step in found] == path
    assert tree.verify_inclusion(HASHES[index], index, size, found, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(
    ("old", "new", "path"), [(1, 1, []), (1, 8, [A, B, C]), (6, 8, [F, E, ROOTS[4]]), (2, 5, [B, D])]
)
def test_consistency_proofs_are_those_of_certificate_transparency(old: int, new: int, path: list[str]) -> None:
    found = tree.consistency(old, new, Stored(HASHES).node)
    assert [step.hex() for step in found] == path
    assert tree.verify_consistency(old, new, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]), found)


def test_the_example_of_the_rfc() -> None:
    """RFC 9162 section 2.1.5: seven leaves, the nodes named as there."""
    data = [f"d{number}".encode() for number in range(7)]
    a, b, c, d, e, f, j = hashes = [tree.leaf_hash(leaf) for leaf in data]
    g, h, i = tree.node_hash(a, b), tree.node_hash(c, d), tree.node_hash(e, f)
    k, l = tree.node_hash(g, h), tree.node_hash(i, j)  # noqa: E741 - its name there
    node = Stored(hashes).node
    assert tree.root(7, node) == tree.node_hash(k, l)
    assert tree.inclusion(0, 7, node) == [b, h, l]
    assert tree.inclusion(3, 7, node) == [c, g, l]
    assert tree.inclusion(4, 7, node) == [f, j, k]
    assert tree.inclusion(6, 7, node) == [i, k]
    assert tree.consistency(3, 7, node) == [c, d, g, l]
    assert tree.consistency(4, 7, node) == [l]
    assert tree.consistency(6, 7, node) == [i, j, k]


def _hashes(count: int) -> list[bytes]:
    return [tree.leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


SIZES = st.integers(1, 70)


@given(st.data(), SIZES)
@settings(max_examples=150, deadline=None)
def test_every_proof_is_the_naive_one_and_verifies(data: st.DataObject, size: int) -> None:
    hashes = _hashes(size)
    node, root = Stored(hashes).node, naive(hashes)
    assert tree.root_of(hashes) == tree.root(size, node) == root
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path = tree.inclusion(index, size, node)
    assert path == naive_path(index, hashes)
    assert tree.verify_inclusion(hashes[index], index, size, path, root)
    proof = tree.consistency(old, size, node)
    assert proof == naive_proof(old, hashes)
    assert tree.verify_consistency(old, size, naive(hashes[:old]), root, proof)


@given(st.data(), st.integers(2, 40))
@settings(max_examples=300, deadline=None)
def test_no_altered_inclusion_proof_verifies(data: st.DataObject, size: int) -> None:
    hashes = _hashes(size)
    index = data.draw(st.integers(0, size - 1))
    path, root = tree.inclusion(index, size, Stored(hashes).node), naive(hashes)
    other = data.draw(st.integers(0, size - 1).filter(lambda place: place != index))
    assert not tree.verify_inclusion(hashes[other], index, size, path, root)
    assert not tree.verify_inclusion(hashes[index], other, size, path, root)
    assert not tree.verify_inclusion(hashes[index], index, size, path, naive(hashes[:-1]))
    assert not tree.verify_inclusion(hashes[index], index, size, [*path, bytes(32)], root)
    assert not tree.verify_inclusion(hashes[index], index, size, path[:-1], root)
    at = data.draw(st.integers(0, len(path) - 1))
    assert not tree.verify_inclusion(
        hashes[index], index, size, [*path[:at], tree.leaf_hash(path[at]), *path[at + 1 :]], root
    )


@given(st.data(), st.integers(2, 40))
@settings(max_examples=300, deadline=None)
def test_no_forked_tree_is_taken_for_a_continuation(data: st.DataObject, size: int) -> None:
    hashes = _hashes(size)
    old = data.draw(st.integers(1, size - 1))
    changed = data.draw(st.integers(0, old - 1))
    fork = [*hashes[:changed], tree.leaf_hash(b"another"), *hashes[changed + 1 :]]
    old_root = naive(hashes[:old])
    for path in (tree.consistency(old, size, Stored(hashes).node), tree.consistency(old, size, Stored(fork).node)):
        assert not tree.verify_consistency(old, size, old_root, naive(fork), path)
    path = tree.consistency(old, size, Stored(hashes).node)
    assert not tree.verify_consistency(old, size, naive(fork[:old]), naive(hashes), path)
    assert not tree.verify_consistency(old, size, old_root, naive(hashes), path[:-1])
    assert not tree.verify_consistency(old, size, old_root, naive(hashes), [*path, bytes(32)])
    assert not tree.verify_consistency(size, old, old_root, naive(hashes), path)


def test_what_is_out_of_the_tree_has_no_proof() -> None:
    node = Stored(HASHES).node
    for index, size in ((-1, 8), (8, 8), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            tree.inclusion(index, size, node)
        assert not tree.verify_inclusion(HASHES[0], index, size, [], HASHES[0])
    with pytest.raises(ValueError, match="does not continue"):
        tree.consistency(5, 4, node)


def test_the_empty_tree_is_continued_by_every_tree() -> None:
    assert tree.consistency(0, 8, Stored(HASHES).node) == []
    assert tree.verify_consistency(0, 8, tree.EMPTY_ROOT, bytes.fromhex(ROOTS[8]), [])
    assert not tree.verify_consistency(0, 8, bytes(32), bytes.fromhex(ROOTS[8]), [])
    assert not tree.verify_consistency(0, 0, tree.EMPTY_ROOT, bytes(32), [])
