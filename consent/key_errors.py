"""What the key store and the places of master keys refuse, each with a stable code."""

from __future__ import annotations


class KeyStoreError(Exception):
    """The key store cannot do what was asked; `code` is stable, nothing was changed."""

    code = "key_store"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class KeyMissingError(KeyStoreError):
    """There is no such key."""

    code = "key_missing"


class KeyDestroyedError(KeyStoreError):
    """The key was destroyed on purpose: what lay under it is erased for ever."""

    code = "key_destroyed"


class MasterKeyUnusableError(KeyStoreError):
    """The master key cannot be read, or is not one; asking again changes nothing."""

    code = "master_key_unusable"


class MasterKeyUnavailableError(KeyStoreError):
    """The service that keeps the master key does not answer; the same call may work later."""

    code = "master_key_unavailable"


class MasterKeyChangedError(KeyStoreError):
    """The house's data keys are wrapped by another master key than those at hand."""

    code = "master_key_changed"


def unusable(where: str, why: str) -> MasterKeyUnusableError:
    return MasterKeyUnusableError(f"The master key {where} {why}. Nothing was changed. Correct it, then start again.")


def unavailable(where: str, why: str) -> MasterKeyUnavailableError:
    return MasterKeyUnavailableError(
        f"The service that keeps the master key ({where}) does not answer: {why}. Nothing was changed or lost; "
        "what waits for it is tried again."
    )
