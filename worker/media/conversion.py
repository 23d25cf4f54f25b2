"""From decoded frames of any format, colour and turn to `Planes`: upright, square pixels, BT.709, limited range."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from worker.media import tonemap
from worker.media.planes import Planes

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
        matrix = _matrix_of(frame)
        if (
            frame.format.name != "yuv420p"
            or matrix != _BT709
            or _range_of(frame) != _SCALER_LIMITED
            or abs(frame.width - width) > 1
            or abs(frame.height - height) > 1
        ):
            frame = self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format="yuv420p",
                src_colorspace=matrix,
                dst_colorspace=_BT709,
                src_color_range=_range_of(frame),
                dst_color_range=_SCALER_LIMITED,
                threads=self._threads,
            )
        for source, target in zip(frame.planes, (planes.y, planes.u, planes.v), strict=False):
            view = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)[:, : source.width]
            if self._rotation:
                rows, columns = target.shape if self._rotation == 180 else target.shape[::-1]
                cv2.rotate(np.ascontiguousarray(view[:rows, :columns]), _TURNS[self._rotation], dst=target)
            else:
                target[:] = view[: target.shape[0], : target.shape[1]]


def _matrix_of(frame: Any) -> int:
    known = _MATRICES.get(int(frame.colorspace))
    if known is not None:
        return known
    # Unmarked: the usual convention of players, standard definition is BT.601.
    return _BT709 if frame.height >= 720 or frame.width >= 1280 else _BT601


def _range_of(frame: Any) -> int:
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return _SCALER_FULL if full else _SCALER_LIMITED
