"""Errors of the invisible mark. Every one has a stable `code` the web side maps to a problem document."""

from __future__ import annotations


class MarkError(Exception):
    """The mark could not be written or a mark artefact could not be understood; the caller's picture is untouched.

    `code` is one of "picture_format", "plane_format", "too_small", "too_long", "mark_id", "key", "pattern", "mode",
    "fingerprint".
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
