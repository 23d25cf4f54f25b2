"""Errors of a run that are neither the file's, nor a face's, nor a model's."""

from __future__ import annotations

from typing import Final

_TEXTS: Final = {
    "analysis_invalid": "The stored analysis does not fit the file. Nothing was written. Analyse the file again.",
    "target_missing": "The chosen face is not in the target. Nothing was written. Choose a face again.",
    "file_changed": "A file is not the one that was agreed on. Nothing was written. Upload it again.",
    "unmarkable": "The result cannot carry the invisible mark, so it was not kept. Use a larger, less flat picture.",
    "part_invalid": "A part of the result is not as it was made. Nothing was published. It is made again.",
    "worker_crash": "A part of the video ended the process at work on it each time. Nothing was published. Re-encode "
    "the file and try again.",
    "result_too_large": "The upscaler would make the result larger than it may be. Nothing was written. Choose another "
    "one, or for a video a smaller scale or height.",
    "label_impossible": "The visible notice does not fit the picture. Nothing was written. Use a larger picture.",
}


class PipelineError(Exception):
    """A run was refused. `code` is stable; `message` says what happened, what was lost and what to do."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        self.message = _TEXTS[code]
        super().__init__(f"{self.message} ({detail})" if detail else self.message)
