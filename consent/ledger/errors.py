"""What can go wrong with the ledger; codes are stable."""

from __future__ import annotations


class LedgerError(Exception):
    """`code`: payload_invalid, not_in_transaction, kind_unknown, ledger_key_unusable, ledger_fork, ledger_rolled_back,
    log_query_invalid, log_leaf_unknown, log_size_unknown, log_empty, export_invalid, note_invalid.

    `status` is the HTTP status that says the same.
    """

    def __init__(self, code: str, message: str, *, status: int = 503) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
