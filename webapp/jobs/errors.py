"""What a service of this app refuses, with the HTTP status that says the same."""

from __future__ import annotations


class JobsError(Exception):
    """A request that cannot be carried out. `code` is stable; `message` says what happened and what to do."""

    def __init__(self, code: str, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def not_found(what: str) -> JobsError:
    """The same answer for a thing of another organisation and for one that never was."""
    return JobsError("not_found", f"There is no such {what} in your organisation. Nothing was changed.", status=404)


def option_invalid(name: str, allowed: str) -> JobsError:
    """A choice about a job that cannot be; `allowed` says what can."""
    return JobsError(
        "option_invalid", f"The option {name} must be {allowed}; nothing was made. Correct it and send again."
    )
