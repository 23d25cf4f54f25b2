"""Where the person's clips lie. The storage is another room's: it registers here how to keep and to delete bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

PREFIX = "selfie"  # of the names of all objects that show a person who was checked

Store = Callable[[BinaryIO, str], str]
Delete = Callable[[str], None]

_registered: dict[str, tuple[Store, Delete]] = {}


def register_clip_storage(store: Store, delete: Delete) -> None:
    """`store(file, key_id)` keeps the bytes encrypted under that key and returns the object's name; `delete(name)`
    removes one, and does nothing for one that is gone."""
    _registered["storage"] = (store, delete)


def store(file: BinaryIO, key_id: str) -> str:
    """Keep a clip or a still; the object's name. Raises what the storage raises."""
    return _registered["storage"][0](file, key_id)


def delete(name: str) -> None:
    """Delete one; again is fine."""
    if name:
        _registered["storage"][1](name)
