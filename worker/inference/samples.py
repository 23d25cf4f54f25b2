"""Sample inputs of one model: what a calibration learns from and a gate is run on."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[Any]]
"""Arrays by input name, as the model takes them; the first axis counts the samples and is the same for all."""


def count(inputs: Inputs) -> int:
    """How many samples there are."""
    return min((len(array) for array in inputs.values()), default=0)


def digest(inputs: Inputs) -> str:
    """SHA-256 over names, types, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(inputs):
        array = np.ascontiguousarray(inputs[name])
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def joined(first: Inputs, second: Inputs) -> Inputs:
    """The samples of both, of the same model."""
    return {name: np.concatenate([first[name], second[name]]) for name in first}


def dump(inputs: Inputs) -> bytes:
    """The samples as the bytes of a compressed .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(inputs))  # type: ignore[arg-type]
    return buffer.getvalue()


def load(path: Path) -> Inputs:
    """Samples written by `dump`. Raises OSError, or ValueError if the file is none of these."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} holds no samples") from error
