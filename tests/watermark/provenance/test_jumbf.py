"""Taking the active manifest out of a store, and what is no store."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from watermark.jumbf import StoreError, active_manifest
from watermark.manifest import SignedManifest


def test_a_store_with_one_manifest_is_its_own_active_manifest(sign: Callable[..., tuple[Path, SignedManifest]]) -> None:
    _, made = sign("image/jpeg")
    assert active_manifest(made.store) == made.store


def test_what_is_cut_or_altered_is_an_error_of_its_own_or_still_a_store(
    sign: Callable[..., tuple[Path, SignedManifest]],
) -> None:
    _, made = sign("image/jpeg")
    chance = random.Random(4)
    for _ in range(500):
        data = bytearray(made.store[: chance.randrange(len(made.store))])
        for _ in range(chance.randrange(4)):
            if data:
                data[chance.randrange(min(len(data), 200))] = chance.randrange(256)
        with contextlib.suppress(StoreError):
            assert len(active_manifest(bytes(data))) <= len(data) + 8


@pytest.mark.parametrize("data", [b"", b"hello", b"\0\0\0\x08jumb", b"\0\0\0\x01jumb", b"\xff" * 64])
def test_what_is_no_store_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(StoreError):
        active_manifest(data)
