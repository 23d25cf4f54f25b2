"""Media-child entry that writes a file again as a platform would: lossy, smaller, without any metadata.

The demo and the tests use it to show what survives when a manifest is stripped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

JPEG_QUALITY = 75
H264_CRF = 23


def reencode(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write `payload["path"]` to `payload["out"]` as JPEG quality 75 (kind photo) or H.264 CRF 23 MP4 (kind video).

    `quality` or `crf` in the payload override the two. Sound is dropped. Returns an empty result.
    """
    path, out = Path(payload["path"]), Path(payload["out"])
    if payload["kind"] == "photo":
        from PIL import Image

        with Image.open(path) as image:
            image.convert("RGB").save(out, "JPEG", quality=int(payload.get("quality", JPEG_QUALITY)))
        return {}
    import av

    options = {"crf": str(payload.get("crf", H264_CRF)), "preset": "veryfast", "threads": "1"}
    with av.open(f"file:{path}") as source, av.open(f"file:{out}", "w", format="mp4") as sink:
        video = source.streams.video[0]
        stream = sink.add_stream("libx264", rate=video.average_rate or 25, options=options)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        stream.time_base = video.time_base
        for frame in source.decode(video):
            again = frame.reformat(format="yuv420p")
            again.pict_type = 0
            sink.mux(stream.encode(again))
        sink.mux(stream.encode())
    return {}
