"""The lists on the worker's side: make an entry of "never my face" from its photo, and compare uploads to that list
and to the lists of picture hashes.

Descriptors are in plain only here, in the memory of the task.
"""

from __future__ import annotations

import logging

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import InterfaceError, OperationalError

from consent import keys
from webapp import storage
from webapp.jobs import leases, workfolder
from webapp.screening import face_list, hash_lists
from webapp.screening.listed import ListedFace
from worker.gate import signals
from worker.gate.looks import face_list as comparing
from worker.gate.looks import lists as picture_lists
from worker.gate.looks.looking import Look, LookError
from worker.gate.looks.sampling import Sample
from worker.gate.signals import Signal
from worker.inference import registry
from worker.inference.client import ensure_engine
from worker.limits import MIN_FACE_PIXELS
from worker.pipeline import run as pipeline
from worker.pipeline.analysed import Track
from worker.pipeline.analysis import Analysis

logger = logging.getLogger(__name__)

PASSING = frozenset({"engine_unavailable", "engine_failed", "storage_failed", "disk_full", "child_failed"})


class PhotoUnusableError(Exception):
    """The picture is sound, but no entry can be made of it. `code`: no_face, face_too_small, several_faces."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@shared_task(name=face_list.TASK)
def enrol_block(entry_id: str) -> None:
    """Compute the descriptor of the one face in an entry's photo, keep it sealed, and have the photo destroyed."""
    owner = leases.new_owner()
    entry = face_list.claim(entry_id, owner)
    if entry is None:
        return
    lease = leases.Lease(ListedFace, entry_id, owner, [ListedFace.State.WORKING])
    try:
        with lease, workfolder.work_folder(entry_id) as folder:
            path, writable = folder / "photo", folder / "out"
            writable.mkdir(mode=0o700)
            storage.materialise(entry.photo_name, entry.photo_key_id, path)
            analysis_path = writable / "analysis"
            pipeline.analyse(
                path,
                analysis_path,
                engine_socket=ensure_engine(settings.HOME),
                work_dir=writable,
                should_stop=lease.lost,
            )
            track = _only_face(Analysis.load(analysis_path))
            key_id, key = face_list.list_key()
            packed = comparing.pack(track.descriptor or (), key)
            lease.guard()
            face_list.finish(entry, owner, packed, model_sha256=_model(), key_id=key_id)
    except leases.LeaseLostError:
        logger.info("Entry %s of the face list was taken from this worker.", entry_id)
    except SoftTimeLimitExceeded:
        face_list.fail(entry, owner, "time_limit")
    except Exception as error:
        code = str(getattr(error, "code", "") or "internal_error")
        away = isinstance(error, OperationalError | InterfaceError)
        if lease.lost():
            return
        logger.warning("Entry %s of the face list ended with %s.", entry_id, code, exc_info=code == "internal_error")
        if away or code in PASSING:
            face_list.give_back(entry, owner)
        else:
            face_list.fail(entry, owner, code)


def measure_listed(analysis: Analysis) -> Signal:
    """The gate's question whether a face of an upload is on the list. A list that cannot be opened is no "no"."""
    try:
        packed, key = face_list.load(_model())
        return comparing.measure(analysis, comparing.FaceList.of(packed, key))
    except (keys.KeyStoreError, keys.TamperedError, ValueError) as error:
        logger.exception("The face list cannot be opened.")
        return signals.failed(comparing.KIND, getattr(error, "code", "list_unreadable"))


def lists_looks(analysis: Analysis) -> list[Look]:
    """The gate's question whether a picture is on a list of hashes; nothing where no list is installed.

    A list that cannot be opened is no "no".
    """
    try:
        installed = hash_lists.installed()
        return [] if installed is None else [picture_lists.ListsLook(installed, analysis)]
    except (keys.KeyStoreError, keys.TamperedError, storage.StorageError, hash_lists.HashListError, OSError) as error:
        logger.exception("The lists of picture hashes cannot be opened.")
        return [_Unopened(str(getattr(error, "code", "") or "list_unreadable"))]


class _Unopened:
    """The look into lists that are there and cannot be opened."""

    kind: str = picture_lists.KIND

    def __init__(self, code: str) -> None:
        self._code = code

    def take(self, sample: Sample) -> None:
        """Nothing is looked at."""

    def finish(self) -> Signal:
        """Raises LookError."""
        raise LookError(self._code)


def _only_face(analysis: Analysis) -> Track:
    faces = [track for track in analysis.tracks if track.size >= MIN_FACE_PIXELS]
    if not analysis.tracks:
        raise PhotoUnusableError("no_face")
    if not faces or faces[0].descriptor is None:
        raise PhotoUnusableError("face_too_small")
    if len(analysis.tracks) > 1:
        raise PhotoUnusableError("several_faces")  # which of them is the person's own cannot be told
    return faces[0]


def _model() -> str:
    return registry.card(comparing.MODEL).sha256
