"""How large a result is. Pure, and without the codecs, so that whoever plans a job can ask."""

from __future__ import annotations

from typing import Final

from worker.media.types import MAX_PHOTO_PIXELS, MAX_VIDEO_SIDE

_LEAST_SCALE: Final = 0.25
_MOST_SCALE: Final = 2.0


def output_size(
    size: tuple[int, int], *, scale: float = 1.0, height: int | None = None
) -> tuple[tuple[int, int], bool]:
    """Return the even (width, height) of the result and whether the wish had to be limited.

    `size` is (width, height) of the source, even. `height` in pixels goes before `scale`. The factor stays within 0.25
    and 2, and no side grows past MAX_VIDEO_SIDE.
    """
    wanted = scale if height is None else height / size[1]
    factor = min(max(wanted, _LEAST_SCALE), _MOST_SCALE, max(1.0, MAX_VIDEO_SIDE / max(size)))
    if factor == 1.0:
        return size, wanted != 1.0
    width, tall = (max(2, round(side * factor / 2) * 2) for side in size)
    if height is not None and factor == wanted:
        tall = height // 2 * 2
    return (min(width, MAX_VIDEO_SIDE), min(tall, MAX_VIDEO_SIDE)), factor != wanted


def is_too_large(size: tuple[int, int], kind: str) -> bool:
    """Whether a result of (width, height) `size`, a "photo" or a "video", would be refused when it is read again."""
    return size[0] * size[1] > MAX_PHOTO_PIXELS if kind == "photo" else max(size) > MAX_VIDEO_SIDE
