"""Media-child entry that tells which codecs are really there; `doctor` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NEEDED = (
    ("H.264 encoder", "libx264", "w"),
    ("HEVC encoder", "libx265", "w"),
    ("AV1 encoder", "libsvtav1", "w"),
    ("AAC encoder", "aac", "w"),
    ("subtitle encoder", "mov_text", "w"),
    ("H.264 decoder", "h264", "r"),
    ("HEVC decoder", "hevc", "r"),
    ("VP9 decoder", "vp9", "r"),
    ("AV1 decoder", "libdav1d", "r"),
)


def present(payload: Mapping[str, Any]) -> dict[str, bool]:
    """Name of each needed codec -> whether this process can open it."""
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    found = {}
    for words, name, mode in NEEDED:
        try:
            Codec(name, mode)
            found[words] = True
        except UnknownCodecError:
            found[words] = False
    try:
        import pi_heif

        found["HEIC decoder"] = bool(pi_heif.libheif_version())
    except ImportError:
        found["HEIC decoder"] = False
    from PIL import features

    found["AVIF reader and writer"] = bool(features.check("avif"))
    return found
