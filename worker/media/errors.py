"""What can be wrong with a file, or with the process that reads it: one exception, one stable code per cause."""

from __future__ import annotations

import errno
from typing import Final

FULL_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of an OSError that say that what was written found no room."""

# code -> (what happened, what the person can do). The middle sentence, whether anything was lost, is the same for all
# refusals of an input and stands in `MediaError`.
_TEXTS: Final[dict[str, tuple[str, str]]] = {
    "not_media": (
        "This file is not a photo or a video.",
        "Send a JPEG, PNG, WebP, AVIF or HEIC photo, or an MP4, MOV, MKV or WebM video.",
    ),
    "format_unsupported": (
        "This kind of photo or video is not supported.",
        "Save it as JPEG, PNG or WebP, or as an MP4 with H.264, and send it again.",
    ),
    "format_mismatch": (
        "The name of the file promises a picture or video, but that is not what the file holds.",
        "Choose another file, or export this one again as JPEG, PNG, WebP or MP4.",
    ),
    "truncated": (
        "The file is damaged or incomplete.",
        "Export or upload it again; if it plays elsewhere, re-encode it first.",
    ),
    "too_large": ("The file is larger than allowed.", "Compress or shorten it and send it again."),
    "too_many_pixels": ("The picture has more pixels than allowed.", "Scale it down and send it again."),
    "no_frames": ("The video holds no picture that can be decoded.", "Re-encode it and send it again."),
    "no_video_stream": ("The file holds no picture track.", "Send a video that has one."),
    "too_many_streams": (
        "The file holds more tracks than allowed.",
        "Keep one picture track and at most eight others, and send it again.",
    ),
    "zero_length": ("The file or its duration is empty.", "Export it again and send it again."),
    "frame_rate_absurd": (
        "The frame rate of the video is missing or absurd.",
        "Re-encode it with 60 frames per second or fewer and send it again.",
    ),
    "too_long": ("The video is longer than allowed.", "Cut it to ten minutes or less and send it again."),
    "audio_unreadable": (
        "The sound of the video cannot be decoded.",
        "Remove the sound track or re-encode it, and send it again.",
    ),
    "subtitles_too_large": (
        "The subtitles of the video are larger than allowed.",
        "Remove or shorten the subtitle tracks and send it again.",
    ),
    "part_empty": (
        "The chosen part of the video holds no picture.",
        "Choose a part that lies inside the video and start the job again.",
    ),
    "encoder_missing": (
        "The chosen encoder is not in this installation.",
        "Choose another one; H.264 is always there.",
    ),
    "device_missing": (
        "The video device that was to write the result cannot be used.",
        "Start the job again; without a device it is written in software.",
    ),
    "encoder_unfit": (
        "The chosen encoder does not fit this kind of file.",
        "Write an MP4, or choose H.264.",
    ),
    "disk_full": ("There is no room left to write the result.", "Free disk space and start the job again."),
    "child_died": (
        "The process that was reading the media ended unexpectedly.",
        "Try once more; if it happens again, re-encode the file.",
    ),
    "child_timeout": (
        "Reading or writing the media took longer than allowed and was stopped.",
        "Try a shorter or smaller file.",
    ),
    "child_out_of_memory": (
        "Reading or writing the media needed more memory than allowed.",
        "Try a smaller file, or raise the memory limit.",
    ),
    "child_failed": (
        "The process that was reading the media reported an internal error.",
        "Try once more; if it happens again, report the error with its details.",
    ),
    "part_broken": (
        "A part of the result is not as it was made.",
        "Start the job again; if it happens again, report the error with its details.",
    ),
    "canceled": ("The work was canceled.", "Start it again if it is still wanted."),
}

CODES: Final = frozenset(_TEXTS)


class MediaError(Exception):
    """A file or a media process was refused or failed.

    `code` is stable and one of `CODES`; `message` says what happened and that nothing was lost; `hint` says what to
    do. `detail` is for the log only: it may quote a decoder and is never shown to a visitor.
    """

    def __init__(self, code: str, detail: str = "", *, message: str | None = None) -> None:
        happened, hint = _TEXTS[code]
        self.code = code
        self.detail = detail
        self.message = f"{message or happened} Nothing was made of it, nothing else was changed."
        self.hint = hint
        super().__init__(f"{self.message} {hint}")


class ChildError(Exception):
    """An error of another package, raised inside the media child and carried out of it.

    `code` and `message` are the error's own; `kind` is the dotted name of its class, so that a caller who knows that
    package can raise the same error again.
    """

    def __init__(self, code: str, message: str, kind: str, trace: str = "") -> None:
        self.code = code
        self.message = message
        self.kind = kind
        self.trace = trace
        super().__init__(message)
