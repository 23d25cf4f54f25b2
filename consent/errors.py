"""What this room refuses."""

from __future__ import annotations

from collections.abc import Mapping


class ConsentError(Exception):
    """A request, an answer or a use that cannot be accepted; nothing was changed.

    `code` is stable, `status` the HTTP status that says the same, `fields` names what is wrong in a form
    (field → code), in the order of the page.
    """

    def __init__(self, code: str, message: str, *, status: int = 422, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.fields = dict(fields or {})
