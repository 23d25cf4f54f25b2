"""The envelope: round trips, and every kind of damage found."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent import envelope
from consent.envelope import CHUNK, TamperedError, TruncatedError

KEY = bytes(range(32))
HEADER = 5 + 32 + 7
SEALED_CHUNK = CHUNK + 16


def _seal(data: bytes, aad: bytes = b"place") -> bytes:
    target = io.BytesIO()
    envelope.seal_stream(KEY, io.BytesIO(data), target, aad)
    return target.getvalue()


def _open(sealed: bytes, aad: bytes = b"place", key: bytes = KEY) -> bytes:
    target = io.BytesIO()
    envelope.open_stream(key, io.BytesIO(sealed), target, aad)
    return target.getvalue()


@given(st.binary(max_size=300), st.binary(max_size=30))
@settings(deadline=None)
def test_a_field_opens_only_in_its_place_and_under_its_key(data: bytes, aad: bytes) -> None:
    sealed = envelope.seal(KEY, aad, data)
    assert envelope.unseal(KEY, aad, sealed) == data
    for key, place, value in (
        (bytes(32), aad, sealed),
        (KEY, aad + b"!", sealed),
        (KEY, aad, sealed[:-1]),
        (KEY, aad, b""),
        (KEY, aad, b"\x02" + sealed[1:]),
        (KEY, aad, sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(TamperedError):
            envelope.unseal(key, place, value)


def test_the_same_text_is_never_sealed_the_same_way_twice() -> None:
    assert len({envelope.seal(KEY, b"", b"Ada") for _ in range(50)}) == 50


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 7])
def test_a_stream_of_any_length_comes_back(size: int) -> None:
    data = bytes(index % 251 for index in range(4096)) * (size // 4096 + 1)
    data = data[:size]
    sealed = _seal(data)
    chunks = max(1, -(-size // CHUNK))
    assert len(sealed) == HEADER + size + 16 * chunks
    assert _open(sealed) == data


def test_a_source_that_reads_short_is_read_on() -> None:
    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 70_001))

    data = bytes(CHUNK + 12_345)
    sealed = io.BytesIO()
    envelope.seal_stream(KEY, Dribble(data), sealed, b"")
    plain = io.BytesIO()
    envelope.open_stream(KEY, Dribble(sealed.getvalue()), plain, b"")
    assert plain.getvalue() == data


@pytest.mark.parametrize("keep", [0, 10, HEADER - 1, HEADER, HEADER + SEALED_CHUNK, HEADER + 2 * SEALED_CHUNK])
def test_a_stream_cut_between_chunks_is_truncated(keep: int) -> None:
    with pytest.raises(TruncatedError):
        _open(_seal(bytes(2 * CHUNK + 500))[:keep])


@pytest.mark.parametrize("keep", [HEADER + 5, HEADER + 400, HEADER + SEALED_CHUNK - 1, HEADER + SEALED_CHUNK + 100])
def test_a_stream_cut_inside_a_chunk_does_not_open(keep: int) -> None:
    with pytest.raises((TruncatedError, TamperedError)):
        _open(_seal(bytes(2 * CHUNK + 500))[:keep])


@pytest.mark.parametrize("at", [0, 4, 6, 40, HEADER, HEADER + 99, HEADER + SEALED_CHUNK + 1, -1])
def test_one_flipped_bit_anywhere_is_found(at: int) -> None:
    sealed = bytearray(_seal(bytes(CHUNK + 500)))
    sealed[at] ^= 0x10
    with pytest.raises(TamperedError):
        _open(bytes(sealed))


def test_chunks_cannot_be_exchanged_repeated_or_appended() -> None:
    sealed = _seal(b"a" * CHUNK + b"b" * CHUNK + b"c" * CHUNK)
    head, parts = (
        sealed[:HEADER],
        [sealed[HEADER + n * SEALED_CHUNK : HEADER + (n + 1) * SEALED_CHUNK] for n in range(3)],
    )
    for order in ([1, 0, 2], [0, 0, 1, 2], [0, 2], [0, 1, 2, 2], [0, 1, 2, 0]):
        with pytest.raises(TamperedError):
            _open(head + b"".join(parts[n] for n in order))
    with pytest.raises(TamperedError):
        _open(sealed + b"x")


def test_a_stream_opens_only_in_its_place_and_under_its_key() -> None:
    sealed = _seal(b"photo")
    with pytest.raises(TamperedError):
        _open(sealed, aad=b"elsewhere")
    with pytest.raises(TamperedError):
        _open(sealed, key=bytes(32))


def test_streams_of_the_same_bytes_differ() -> None:
    assert len({_seal(b"photo") for _ in range(20)}) == 20


def test_derived_keys_are_bound_to_their_purpose() -> None:
    assert envelope.derive(KEY, "marks") == envelope.derive(KEY, "marks")
    assert envelope.derive(KEY, "marks") != envelope.derive(KEY, "contact")
    assert len(envelope.derive(KEY, "marks")) == 32
