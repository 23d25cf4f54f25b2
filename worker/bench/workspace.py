"""A home of its own for a bench: its engine is never the one of the deployment, and imports of models are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.inference.client import ensure_engine, stop_engine
from worker.inference.importing import cache_of, import_folder
from worker.inference.registry import BUILTIN, ModelCard, ModelSet


@dataclass(frozen=True)
class Workspace:
    """`home` is the bench's folder, `models_dir` has the built-in models in it, `extra` is the operator's folder."""

    home: Path
    models_dir: Path
    extra: Path | None = None
    models: ModelSet = field(default=BUILTIN)
    providers: str = "auto"

    @classmethod
    def make(cls, home: Path, builtin: Path, extra: Path | None = None, providers: str = "auto") -> Workspace:
        """Make `home`, link the built-in models of the folder `builtin` into it, import `extra`. Raises ModelError."""
        folder = home / "models"
        folder.mkdir(parents=True, exist_ok=True)
        for link in folder.iterdir():
            if link.is_symlink():
                link.unlink()
        for file in builtin.iterdir():
            if file.is_file():
                (folder / file.name).symlink_to(file.resolve())
        models = (
            BUILTIN if extra is None else import_folder(extra, cache_of(folder), threads=len(os.sched_getaffinity(0)))
        )
        return cls(home, folder, extra, models, providers)

    @contextmanager
    def engine(self, *, pretend: Path | None = None, options: Sequence[str] = ()) -> Iterator[Path]:
        """A fresh engine with the models; its socket. Ends with the block. Raises ModelError."""
        stop_engine(self.home)  # of a bench that was killed
        try:
            yield ensure_engine(
                self.home,
                models_dir=self.models_dir,
                extra_models=self.extra,
                providers=self.providers,
                pretend=pretend,
                options=options,
            )
        finally:
            stop_engine(self.home)


def made_inputs(card: ModelCard, size: int) -> dict[str, NDArray[Any]]:
    """Seeded numbers from 0 to 1 (bytes: to 255) in the form of a model's inputs, [size, *shape] by name."""
    generator = np.random.default_rng(0)
    made: dict[str, NDArray[Any]] = {}
    for name, shape in card.contract.inputs.items():
        numbers = generator.random((size, *shape), np.float32)
        dtype = card.contract.input_type(name)
        made[name] = numbers if dtype == numbers.dtype else (256 * numbers).astype(dtype)
    return made
