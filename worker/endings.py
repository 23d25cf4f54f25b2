"""Every way a task can end, given its name: what is the file's fault, what passes, what is ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, connections

from consent import keys
from watermark.labels import IptcError
from watermark.manifest_request import ManifestError
from watermark.signers import SignerError
from watermark.timestamps import TimeStampError
from webapp import keys_of_house, storage
from webapp.jobs import finishing, intake, leases, running, signing
from webapp.jobs.errors import JobsError
from worker.faces.errors import FaceError
from worker.gate import measure as measuring
from worker.gate import profiles
from worker.inference.types import ModelError
from worker.media.errors import FULL_DISK, ChildError, MediaError
from worker.pipeline.errors import PipelineError
from worker.spec import SpecError

logger = logging.getLogger(__name__)

OURS = frozenset({"disk_full", "child_failed"})  # media errors that say nothing about the file
DATABASE_AWAY = "database_unavailable"
PASSING = frozenset(
    {"engine_unavailable", "engine_failed", "storage_failed", "signer_failed", DATABASE_AWAY}
)  # worth another start
INTERNAL = "Something went wrong in this service, not in your files; nothing was published. Try again later."


@contextmanager
def job_endings(job_id: str, owner: str, lease: leases.Lease) -> Iterator[None]:
    """Give every error of a job its state. What happened after the lease was lost is nobody's business any more."""
    try:
        yield
    except leases.LeaseLostError:
        logger.info("Job %s was taken from this worker; its work is thrown away.", job_id)
    except SoftTimeLimitExceeded:
        running.fail_job(job_id, owner, "time_limit", "The job took longer than allowed; nothing was published.")
    except Exception as error:
        if lease.lost():
            logger.info("Job %s ended with %s after it was taken from this worker.", job_id, type(error).__name__)
            return
        code, message = described(error)
        detail = getattr(error, "detail", "")  # a key or time-stamp service's own words, for the operator alone
        logger.warning("Job %s ended with %s. %s", job_id, code, detail, exc_info=code == "internal_error")
        if code == DATABASE_AWAY:
            drop_broken_connections()
        if code in signing.AWAY:
            running.await_signing(job_id, owner, code, message)
        elif code in PASSING:
            running.return_job(job_id, owner, code, message)
        elif isinstance(error, FaceError | MediaError | JobsError) and code not in OURS:
            # Where the service that raised it has moved the job already, this does nothing.
            running.refuse_job(job_id, owner, code, message)
        else:
            running.fail_job(job_id, owner, code, message)


@contextmanager
def asset_endings(asset_id: str, owner: str, lease: leases.Lease) -> Iterator[None]:
    """The same for an asset: what is wrong with a file refuses it, what is wrong with us fails it."""
    try:
        yield
    except leases.LeaseLostError:
        logger.info("Asset %s was taken from this worker.", asset_id)
    except SoftTimeLimitExceeded:
        intake.asset_failed(asset_id, "time_limit", "Examining the file took longer than allowed.", owner=owner)
    except Exception as error:
        if lease.lost():
            return
        code, message = described(error)
        logger.warning("Asset %s ended with %s.", asset_id, code, exc_info=code == "internal_error")
        of_the_file = isinstance(error, measuring.UnusableError) or (
            isinstance(error, MediaError | ChildError) and code not in OURS | PASSING and code != "internal_error"
        )
        if code == DATABASE_AWAY:
            drop_broken_connections()
        if code in PASSING:
            intake.return_asset(asset_id, owner, passing=True)
        elif of_the_file:
            intake.asset_refused(asset_id, code, message, owner=owner)
        else:
            intake.asset_failed(asset_id, code, message, owner=owner)


def drop_broken_connections() -> None:
    """So that the ending itself is written over a fresh one. A connection in a caller's transaction is the caller's."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def described(error: Exception) -> tuple[str, str]:
    """The stable code of an error and a message for the account; unknown errors tell nothing of themselves."""
    if isinstance(error, MediaError):
        return error.code, f"{error.message} {error.hint}"
    known = (
        ChildError,
        FaceError,
        IptcError,
        JobsError,
        ManifestError,
        ModelError,
        PipelineError,
        SignerError,
        TimeStampError,
        finishing.FinishingError,
        keys.KeyStoreError,
        keys.TamperedError,
        keys.TruncatedError,
        keys_of_house.KeysError,
        measuring.UnusableError,
        profiles.ProfileError,
        storage.StorageError,
        SpecError,
    )
    code = getattr(error, "code", "")
    if isinstance(error, known) and isinstance(code, str) and code:
        return code, str(getattr(error, "message", "") or error)
    if isinstance(error, OperationalError | InterfaceError):
        return DATABASE_AWAY, "The database did not answer; nothing was lost. The work starts again by itself."
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return "disk_full", "There is no room left on the disk; nothing was published. Free some, then start again."
    return "internal_error", INTERNAL
