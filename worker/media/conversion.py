"""From decoded frames of any format, colour and turn to `Planes`: upright, square pixels, BT.709, limited range."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from worker.media import tonemap
from worker.media.planes import Bytes, Planes

# ISO/IEC 23091-2 code points as FFmpeg numbers them.
_FULL_RANGE: Final = 2
# Matrix coefficients of a frame -> the constant of the scaler.
_MATRICES: Final = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_BT709, _BT601 = 1, 5
_SCALER_LIMITED, _SCALER_FULL = 1, 2
_TURNS: Final = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class FrameConverter:
    """Converts the frames of one video. `unturned` is (width, height) with square pixels, as the frames are stored.

    `rotation` in degrees clockwise; `transfer` is the curve of frames that are brought to BT.709 first, or None.
    """

    def __init__(
        self, unturned: tuple[int, int], rotation: int, transfer: tonemap.Transfer | None, threads: int
    ) -> None:
        self._unturned = unturned
        self._rotation = rotation
        self._transfer = transfer
        self._threads = threads
        self._reformatter = VideoReformatter()

    def lend(self, frame: Any) -> Planes | None:
        """The frame in the decoder's own memory, as long as that is kept; None if it has to be converted."""
        width, height = self._unturned
        if self._transfer is not None or self._rotation or not _fits(frame, self._unturned):
            return None
        y, u, v = _views(frame)
        if y.shape[0] < height or y.shape[1] < width:
            return None
        half = slice(height // 2), slice(width // 2)
        return Planes.showing(y[:height, :width], u[half], v[half])

    def fill(self, frame: Any, planes: Planes) -> None:
        """See `VideoReader.fill`."""
        width, height = self._unturned
        upright = self._rotation in (0, 180)
        if planes.size != (self._unturned if upright else self._unturned[::-1]):
            width, height = planes.size if upright else planes.size[::-1]
        if self._transfer is not None:
            deep = self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format="rgb48le",
                src_colorspace=_MATRICES.get(int(frame.colorspace), 9),
                src_color_range=_range_of(frame),
                dst_color_range=_SCALER_FULL,
                threads=self._threads,
            )
            rgb = tonemap.to_bt709(np.asarray(deep.to_ndarray(), np.uint16), self._transfer)
            if self._rotation:
                rgb = cv2.rotate(rgb, _TURNS[self._rotation])  # type: ignore[assignment]
            planes.paste(planes.whole, rgb)
            return
        if not _fits(frame, (width, height)):
            frame = self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format="yuv420p",
                src_colorspace=_matrix_of(frame),
                dst_colorspace=_BT709,
                src_color_range=_range_of(frame),
                dst_color_range=_SCALER_LIMITED,
                threads=self._threads,
            )
        for view, target in zip(_views(frame), (planes.y, planes.u, planes.v), strict=True):
            if self._rotation:
                rows, columns = target.shape if self._rotation == 180 else target.shape[::-1]
                cv2.rotate(np.ascontiguousarray(view[:rows, :columns]), _TURNS[self._rotation], dst=target)
            else:
                target[:] = view[: target.shape[0], : target.shape[1]]


def _fits(frame: Any, size: tuple[int, int]) -> bool:
    """Whether a frame's samples are what `Planes` of `size` (width, height) hold, but for an odd row or column."""
    return (
        frame.format.name == "yuv420p"
        and _matrix_of(frame) == _BT709
        and _range_of(frame) == _SCALER_LIMITED
        and abs(frame.width - size[0]) <= 1
        and abs(frame.height - size[1]) <= 1
    )


def _views(frame: Any) -> list[Bytes]:
    """The planes of a frame in its own memory, which lives as long as they do."""
    return [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width] for plane in frame.planes[:3]]


def _matrix_of(frame: Any) -> int:
    known = _MATRICES.get(int(frame.colorspace))
    if known is not None:
        return known
    # Unmarked: the usual convention of players, standard definition is BT.601.
    return _BT709 if frame.height >= 720 or frame.width >= 1280 else _BT601


def _range_of(frame: Any) -> int:
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return _SCALER_FULL if full else _SCALER_LIMITED
