"""The pictures of the bench: drawn ones, those that come with installed packages, and those of a given folder."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from watermark.bench.attack_kit import RGB, resized
from watermark.bench.attacks import seeded
from watermark.bench.scenes import SCENES

Role = Literal["tune", "report"]
MOST_AREA = 2_000_000
LEAST_FILE_SIDE = 256
"""Files with a shorter side are icons and logos, no pictures anybody marks."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff")
SHAPES = ((640, 480), (512, 512), (900, 700), (800, 1200), (1280, 720), (1200, 1200), (1920, 1080), (600, 420))
"""Sizes of the drawn pictures, (width, height): 0.25 to 2 megapixels."""


@dataclass(frozen=True)
class Picture:
    """A picture by name, drawn or loaded only when `pixels` is called; may cross to another process.

    `kind`: a key of SCENES, or "photo" for files. `role`: whether it may be looked at while tuning, or only reported.
    """

    name: str
    kind: str
    role: Role
    file: Path | None = None
    shape: tuple[int, int] = (0, 0)

    def pixels(self) -> RGB:
        """uint8 [H, W, 3] RGB, at most MOST_AREA pixels. Raises OSError for a file that is no picture."""
        if self.file is None:
            return SCENES[self.kind](self.shape, seeded(1, self.name))
        with Image.open(self.file) as image:
            rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
        factor = math.sqrt(MOST_AREA / (rgb.shape[0] * rgb.shape[1]))
        return resized(rgb, (int(rgb.shape[1] * factor), int(rgb.shape[0] * factor))) if factor < 1 else rgb.copy()


def role_of(name: str) -> Role:
    """A third of all names is for tuning, by a hash of the name: the split stays when pictures come and go."""
    return "tune" if hashlib.sha256(name.encode()).digest()[1] < 85 else "report"


def drawn(copies: int = 3) -> list[Picture]:
    """`copies` pictures of each kind in SCENES, of mixed sizes."""
    pictures = []
    for copy in range(copies):
        for index, kind in enumerate(SCENES):
            name = f"{kind}-{copy + 1}"
            shape = SHAPES[(index + 3 * copy) % len(SHAPES)]
            pictures.append(Picture(name, kind, role_of(name), shape=shape))
    return pictures


def from_files(files: Iterable[Path], role: Role | None = None) -> list[Picture]:
    """Pictures from files, those left out that cannot be opened or are smaller than LEAST_FILE_SIDE."""
    pictures: list[Picture] = []
    names: dict[str, int] = {}
    for file in sorted(files):
        try:
            with Image.open(file) as image:
                size = image.size
        except (OSError, ValueError):
            continue
        if min(size) >= LEAST_FILE_SIDE:
            names[file.stem] = names.get(file.stem, 0) + 1
            name = file.stem if names[file.stem] == 1 else f"{file.stem}-{names[file.stem]}"
            pictures.append(Picture(name, "photo", role or role_of(file.stem), file=file))
    return pictures


def _pictures_under(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES] if folder.is_dir() else []


def packaged() -> list[Picture]:
    """Photos that come with this project's samples and with matplotlib, scikit-image or SciPy where installed."""
    found = _pictures_under(Path(__file__).parents[2] / "tests" / "samples")
    for package, inside in (("matplotlib", "mpl-data/sample_data"), ("skimage", "data"), ("scipy", "datasets")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            found += _pictures_under(Path(spec.origin).parent / inside)
    pictures: dict[str, Picture] = {}
    for picture in from_files(found):
        pictures.setdefault(picture.name, picture)
    return list(pictures.values())


def corpus(folders: Sequence[Path] = (), *, role: Role = "report", limit: int | None = None) -> list[Picture]:
    """The pictures of `role`; with `folders` all of theirs and no others.

    `limit` keeps that many, spread over the kinds. Raises FileNotFoundError for a folder without pictures.
    """
    if folders:
        files = {folder: _pictures_under(folder) for folder in folders}
        for folder, found in files.items():
            if not from_files(found, role):
                raise FileNotFoundError(folder)
        pictures = from_files({file for found in files.values() for file in found}, role)
    else:
        pictures = [picture for picture in (*packaged(), *drawn()) if picture.role == role]
    if limit is None or limit >= len(pictures):
        return pictures
    return [pictures[index * len(pictures) // limit] for index in range(limit)]
