"""The donor as a swapper takes them: read from their photos once for a job, and not once for a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from worker.faces import align
from worker.faces.neural.crops import TensorWriter, cut, framing
from worker.faces.neural.embeddings import unit
from worker.faces.neural.swappers import Converter
from worker.faces.quality import fine_detail
from worker.faces.types import Floats, ModelRunner, Rgb
from worker.inference.contracts import ImageContract
from worker.inference.registry import ModelSet

_CHIP: Final = 160


@dataclass(frozen=True)
class DonorPhoto:
    """A photo of the donor, uint8 [H, W, 3] RGB, the five points of their face in it, float32 [5, 2], and that face's
    embedding as the net gives it, float32 [D].
    """

    rgb: Rgb
    five: Floats
    raw: Floats


@dataclass(frozen=True)
class Identity:
    """The donor of a track as one embedding, float32 [D] of length 1; `sharpness` is the best of the photos'.

    `source` is what one swapper takes for them, float32 of the shape of its input of that name.
    """

    embedding: Floats
    sharpness: float
    source: Floats


def identity_of(photos: Sequence[DonorPhoto], swapper: str, runner: ModelRunner, models: ModelSet) -> Identity:
    """The donor whom all `photos` show, for the model `swapper`.

    The embedding has the mean direction of all photos'; a converter gets that direction at the mean of their lengths. A
    swapper that looks at a picture itself gets the sharpest. Raises ModelError, and ValueError for photos that have no
    common direction.
    """
    contract = models.card(swapper).contract
    embedding = unit(np.sum([unit(photo.raw) for photo in photos], axis=0))
    sharp = [sharpness_at(photo.rgb, photo.five) for photo in photos]
    source = embedding
    if contract.source is not None:
        source = _picture(photos[int(np.argmax(sharp))], contract.source)
    elif contract.converter:
        converter = Converter(models.card(contract.converter))
        length = float(np.mean([np.linalg.norm(photo.raw) for photo in photos]))
        source = converter.decode(runner.run(contract.converter, converter.prepare(embedding * length)))
    return Identity(embedding, max(sharp), source)


def sharpness_at(rgb: Rgb, five: Floats) -> float:
    """How fine the detail is of the face at `five`; see `quality.fine_detail`."""
    return fine_detail(rgb, align.similarity(five, np.array(align.TEMPLATES["ffhq_512"]) * _CHIP))


def _picture(photo: DonorPhoto, image: ImageContract) -> Floats:
    square = cut(photo.rgb, framing(image, photo.five), image.side)
    return TensorWriter(image).write(square)[0]
