"""Open a file for decoding on a video device.

Software is always there: where no device can, it decodes, and the reader says so. Only NVIDIA's NVDEC is looked for.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Final

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

_DEVICE: Final = "cuda"


def open_video(file: BinaryIO, container: str, *, on_device: bool) -> Any:
    """Open `file` with the demuxer `container`, for decoding `on_device` if there is one.

    The picture track's `codec_context.is_hwaccel` tells what became of it. Raises av.FFmpegError, OSError or ValueError
    as FFmpeg does for a damaged header.
    """
    # The demuxer is forced and gets a file object: no playlist, no second file and no protocol can be opened.
    # Names in other encodings than UTF-8 are no reason to refuse a video; they are only ever shown.
    options: dict[str, Any] = {"format": container, "options": {"protocol_whitelist": "file"}}
    options["metadata_errors"] = "replace"
    if not on_device:
        return av.open(file, "r", **options)
    if _DEVICE in hwdevices_available():
        try:
            # Frames come back to system memory: what follows works on planes.
            accelerated = HWAccel(_DEVICE, allow_software_fallback=True)
            return av.open(file, "r", hwaccel=accelerated, **options)
        except (av.FFmpegError, OSError, NotImplementedError, RuntimeError):
            file.seek(0)  # no device, or none that knows this codec; a damaged file is told apart by the next try
    return av.open(file, "r", **options)
