"""Headers and arenas from a client that may be hostile."""

import fcntl
import math
import os
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.inference import registry, wire
from worker.inference.arena import Allocator, Arena
from worker.inference.wire import ProtocolError, RunRequest

CARD = registry.card("face_mesh")
GOOD = {
    "op": "run",
    "id": 7,
    "model": "face_mesh",
    "batch": 2,
    "at": 1048576,
}
ARENA_SIZE = 4 * 1024 * 1024

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_a_request_survives_the_way_over_the_wire():
    request = wire.decode_request(GOOD)
    assert wire.encode_request(request) == GOOD
    wire.check_place(request, wire.layout(CARD.contract, request.batch).size, ARENA_SIZE)


def admit(header: dict[str, object]) -> wire.Request:
    """Both checks of the engine, as it makes them."""
    request = wire.decode_request(header)
    if isinstance(request, RunRequest):
        wire.check_place(request, wire.layout(CARD.contract, request.batch).size, ARENA_SIZE)
    return request


@given(field=st.sampled_from(sorted(GOOD)), value=json_values)
def test_any_value_in_any_field_is_either_refused_or_stays_inside_the_arena(field, value):
    try:
        request = admit({**GOOD, field: value})
    except ProtocolError:
        return
    assert isinstance(request, RunRequest)
    layout = wire.layout(CARD.contract, request.batch)
    for offsets, contract in ((layout.inputs, CARD.contract.inputs), (layout.outputs, CARD.contract.outputs)):
        for name, shape in contract.items():
            assert request.at + offsets[name] >= 0
            assert request.at + offsets[name] + wire.tensor_bytes(shape, request.batch, 4) <= ARENA_SIZE


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 0},
        {"batch": 33},
        {"batch": True},
        {"batch": 1.0},
        {"batch": 32},  # 14 MB do not fit
        {"at": -64},
        {"at": 1},
        {"at": ARENA_SIZE},
        {"at": ARENA_SIZE - 64},
        {"at": 2**62},
        {"at": {"image": 0}},
        {"inputs": {"image": 0}},
        {"dtype": "int8"},
        {"op": "exec"},
        {"id": -1},
    ],
    ids=str,
)
def test_a_header_that_asks_for_more_than_its_due_is_refused(change):
    with pytest.raises(ProtocolError):
        admit({**GOOD, **change})


def test_an_arena_is_only_accepted_if_it_cannot_shrink_under_the_engine(tmp_path):
    plain = os.memfd_create("plain", os.MFD_CLOEXEC)
    os.ftruncate(plain, 4096)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 4096)
    arena, sealed = Arena.create(4096)
    huge = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
    fcntl.fcntl(huge, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    try:
        for descriptor, size in ((plain, 4096), (file, 4096), (sealed, 8192), (sealed, 0)):
            with pytest.raises(ProtocolError):
                Arena.accept(descriptor, size)
        with pytest.raises(ProtocolError, match="ordinary pages"):
            Arena.accept(huge, 2 << 20)
        accepted = Arena.accept(sealed, 4096)
        with pytest.raises(OSError):
            os.ftruncate(sealed, 0)
        arena.view(64, 1, (4,))[:] = 5
        assert accepted.view(64, 1, (4,)).tolist() == [[5, 5, 5, 5]]
        assert accepted.view(64, 1, (2,), np.dtype(np.uint8)).tolist() == [[0, 0]]  # as bytes: 5.0 is 00 00 a0 40
    finally:
        for descriptor in (plain, file, sealed, huge):
            os.close(descriptor)


def test_regions_never_overlap_and_all_of_the_arena_comes_back():
    import random

    generator = random.Random(3)
    allocator = Allocator(64 * 100)
    held: dict[int, int] = {}
    for _ in range(2000):
        size = 64 * generator.randint(1, 12)
        if held and (generator.random() < 0.5 or sum(held.values()) > 64 * 40):
            offset = generator.choice(list(held))
            allocator.give_back(offset, held.pop(offset))
        else:
            offset = allocator.take(size)
            assert offset is not None
            assert all(offset + size <= other or other + room <= offset for other, room in held.items())
            assert offset + size <= 64 * 100
            held[offset] = size
    for offset, size in held.items():
        allocator.give_back(offset, size)
    assert allocator.take(64 * 100) == 0
    assert allocator.take(64) is None
    with pytest.raises(ValueError, match="never fit"):
        allocator.take(64 * 101)


def test_the_largest_batch_of_every_model_fits_the_clients_arena():
    from worker.inference.connection import ARENA_SIZE as CLIENT_ARENA

    for card in registry.cards().values():
        assert wire.layout(card.contract, registry.MAX_BATCH).size <= CLIENT_ARENA


def test_the_tensors_of_a_run_lie_aligned_one_behind_the_other_and_never_overlap():
    operators = [known.card for known in registry.operator_models().values()]
    for card in (*registry.cards().values(), *operators):
        contract = card.contract
        for batch in (1, 3, registry.MAX_BATCH):
            layout = wire.layout(contract, batch)
            sizes = {
                name: type_of(name).itemsize * batch * math.prod(shape)
                for shapes, type_of in (
                    (contract.inputs, contract.input_type),
                    (contract.outputs, contract.output_type),
                )
                for name, shape in shapes.items()
            }
            end = 0
            for name, offset in {**layout.inputs, **layout.outputs}.items():
                assert offset % wire.ALIGNMENT == 0
                assert offset >= end
                end = offset + sizes[name]
            assert end <= layout.size < end + wire.ALIGNMENT
    pictures = [card.contract for card in operators if card.contract.image]
    assert {contract.input_type(contract.image.input) for contract in pictures} == {np.dtype(np.uint8)}
    given = [contract for contract in pictures if contract.image.output]
    assert {contract.output_type(contract.image.output) for contract in given} == {np.dtype(np.uint8)}


def test_a_frame_that_ends_early_or_is_too_long_or_brings_two_descriptors_is_refused():
    cases = [b"\0\0", b"\0\0\0\x05{", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x02[]", b"\0\0\0\x03{{{"]
    cases.append(b"\0\0\x20\0" + b"[" * 0x2000)  # nested deeper than the parser goes
    for data in cases:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(data)
            theirs.close()
            with pytest.raises(ProtocolError):
                wire.FrameReader(ours, timeout=5.0).read()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        open_before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(theirs, [b"\0\0\0\x02{}"], [0, 1, 2])
        with pytest.raises(ProtocolError, match="descriptor"):
            wire.receive(ours)
        assert len(os.listdir("/proc/self/fd")) == open_before
