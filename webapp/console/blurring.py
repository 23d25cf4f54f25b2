"""A preview in which nobody can be recognised, for a moderator who has not given a reason yet."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

LEFT: Final = 12  # pixels of the longer side that any detail survives from
SHOWN: Final = 192
LARGEST: Final = 4096  # pixels a side of a preview; one of ours has far fewer


def blurred(jpeg: bytes) -> bytes:
    """A JPEG of at most SHOWN pixels a side, made of what LEFT pixels hold. Raises OSError for what is no JPEG of ours.

    The bytes are one of this house's own previews, written by a media child; nothing that was uploaded is opened here.
    """
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        if max(image.size) > LARGEST:
            raise OSError("The preview is larger than any of this house.")
        picture = image.convert("RGB")
    scale = LEFT / max(picture.size)
    small = picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.BOX
    )
    scale = SHOWN / max(picture.size)
    shown = small.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.BICUBIC
    )
    out = io.BytesIO()
    shown.save(out, "JPEG", quality=60)
    return out.getvalue()
