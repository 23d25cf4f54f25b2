"""Video devices: open a file for decoding on one, and name the device files that a confined child needs for it.

Software is always there: "auto" falls back and says so. Only NVIDIA's NVDEC and NVENC are looked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

_DEVICE: Final = "cuda"
_FILES: Final = "nvidia*"


def open_video(file: BinaryIO, container: str, decoder: Literal["off", "auto"]) -> tuple[Any, list[str]]:
    """Open `file` with the demuxer `container`; return the container and what is to be said about its decoder.

    Raises av.FFmpegError, OSError or ValueError as FFmpeg does for a damaged header.
    """
    # The demuxer is forced and gets a file object: no playlist, no second file and no protocol can be opened.
    # Names in other encodings than UTF-8 are no reason to refuse a video; they are only ever shown.
    options: dict[str, Any] = {"format": container, "options": {"protocol_whitelist": "file"}}
    options["metadata_errors"] = "replace"
    if decoder == "off":
        return av.open(file, "r", **options), []
    if _DEVICE in hwdevices_available():
        try:
            # Frames come back to system memory: what follows works on planes.
            accelerated = HWAccel(_DEVICE, allow_software_fallback=True)
            return av.open(file, "r", hwaccel=accelerated, **options), []
        except (av.FFmpegError, OSError, NotImplementedError, RuntimeError):
            file.seek(0)  # no device, or none that knows this codec; a damaged file is told apart by the next try
    return av.open(file, "r", **options), ["hardware_decoder_missing"]


def device_files(root: Path = Path("/dev")) -> list[Path]:
    """The device files of NVIDIA's driver under `root`, which a child has to be granted by name; none without one."""
    found = [path for path in root.glob(_FILES) if not path.is_dir()]
    caps = root / "nvidia-caps"
    if caps.is_dir():
        found += [path for path in caps.iterdir() if not path.is_dir()]
    return sorted(found)
