"""What can be wrong with a question to the public verifier."""

from __future__ import annotations


class QueryError(Exception):
    """A question that cannot be answered; `code` is stable.

    query_invalid, value_invalid, algorithm_unsupported, manifest_id_invalid (400), not_found (404), too_large (413),
    query_too_long (414), asset_type_invalid (415), verification_input (422).
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
