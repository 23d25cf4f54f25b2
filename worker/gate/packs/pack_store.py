"""The detector packs of this machine and what may be believed of each: licence, calibration, evaluation, role.

Each pack lies in a folder of its own (manifest and model); `packs.json` beside them holds what was measured and decided
here. A pack decides (`enforcing`) only while its file, licence, calibration and evaluation are all in order and the
operator asked for it; else it is run as `advisory`, recorded and never decisive, or not at all.

A service outside of this house (`outside_services`) stands among them once the operator accepted that uploads are sent
to it; calibration, evaluation and role are those of any pack.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from worker.gate.packs.calibration import Calibration, CalibrationError
from worker.gate.packs.outside_services import SERVICES, Service
from worker.gate.packs.standing import Evaluation, PackError, Role, Standing
from worker.inference import packs
from worker.inference.builtin import write_atomically
from worker.inference.file_lock import held
from worker.inference.packages import sha256_of
from worker.inference.packs import Pack
from worker.inference.types import ModelError
from worker.model_choice import licence_allows

RECORD: Final = "packs.json"


@dataclass
class _Record:
    licences: dict[str, dict[str, str]] = field(default_factory=dict)
    calibrations: dict[str, dict[str, Any]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    enforced: dict[str, dict[str, str]] = field(default_factory=dict)
    drift: dict[str, dict[str, Any]] = field(default_factory=dict)
    services: dict[str, dict[str, str]] = field(default_factory=dict)


class PackStore:
    """The folder of detector packs; changes take turns between processes by a file lock."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist yet."""
        self.folder = folder

    def standings(self, *, compare: bool = False) -> list[Standing]:
        """Every pack, and every one that was asked to decide and is gone. With `compare` the files are read whole.

        Raises PackError `record_unreadable`.
        """
        record = self._read()
        found = {
            name: self._standing(name, pack, record, compare=compare)
            for name, pack in packs.installed(self.folder).items()
        }
        for name in record.services:
            if (service := SERVICES.get(name)) is not None and name not in found:
                found[name] = self._service(service, record)
        for name, wanted in record.enforced.items():
            if name not in found:
                found[name] = Standing(name, wanted["kind"], "refused", "pack_missing", wanted=True)
        return [found[name] for name in sorted(found)]

    def standing(self, name: str) -> Standing:
        """One pack. Raises PackError `pack_unknown`, `record_unreadable`."""
        for one in self.standings(compare=True):
            if one.id == name:
                return one
        raise PackError("pack_unknown", f"No pack {name!r} is installed. Nothing was changed. See `gate packs list`.")

    def install(
        self, source: Path | str, *, model: Path | None = None, sha256: str = "", pin: bool = False, reason: str = ""
    ) -> Standing:
        """Put a pack in place from a manifest file, or by the id of a shipped one; `model` names the ONNX file, else
        the one that lies beside the manifest.

        A manifest without a hash wants the operator's word: `sha256`, or `pin` for the file at hand. A licence that
        forbids commercial use needs a `reason`, which is written down. Raises PackError `hash_unknown`,
        `licence_not_accepted`, and ModelError as `packs.read` and `packs.examine`; then nothing was changed.
        """
        if str(source) in SERVICES:
            raise PackError(
                "pack_is_a_service",
                f"{source} is a service outside of this house: there is nothing to install. Nothing was changed. To "
                f'send uploads to it: gate packs accept {source} --reason "…".',
            )
        manifest = packs.shipped().get(str(source), Path(source))
        pack = packs.read(manifest)
        path = model or manifest.with_name(pack.file or f"{pack.id}.onnx")
        if model is None and not path.is_file():
            path = manifest.with_suffix(".onnx")
        if sha256:
            if pack.sha256 and pack.sha256 != sha256.lower():
                raise PackError(
                    "model_hash_mismatch",
                    f"The manifest of {pack.id} names another SHA-256 ({pack.sha256}) than you. Nothing was changed.",
                )
            pack = replace(pack, sha256=sha256.lower(), size=_size(path))
        if not (pack.sha256 or pin):
            raise PackError(
                "hash_unknown",
                f"Nobody has written down the SHA-256 of {pack.id}. Nothing was changed. Compare your file's with its "
                "publisher's and give it with --sha256, or take it on trust with --pin.",
            )
        proven = packs.examine(pack, path)
        with self._turn() as record:
            if reason.strip():
                record.licences[pack.id] = _acceptance(proven, reason)
            if not _accepted(proven, record):
                raise PackError(
                    "licence_not_accepted",
                    f"The licence of {pack.id} is {pack.licence} ({pack.licence_url}), which does not allow commercial "
                    'use. Nothing was changed. If you may use it, say why with --reason "…".',
                )
            self._put(proven, path)
        return self.standing(pack.id)

    def remove(self, name: str) -> bool:
        """Take a pack away, with its role; whether one was there. What was measured of it stays. To a service nothing
        is sent any more."""
        with self._turn() as record:
            there = (self.folder / _plain(name)).is_dir() or name in record.services
            record.services.pop(name, None)
            shutil.rmtree(self.folder / _plain(name), ignore_errors=True)
            record.enforced.pop(name, None)
        return there

    def accept(self, name: str, reason: str, by: str) -> None:
        """Write down that the pack may be used under its licence, or that uploads may be sent to the service, and why.

        Raises PackError.
        """
        if not reason.strip():
            raise PackError(
                "reason_required",
                "Accepting a licence, or that uploads leave this house, needs its reason. Nothing was changed. Give it "
                'with --reason "…".',
            )
        if name in SERVICES:
            with self._turn() as record:
                record.services[name] = {"reason": reason.strip(), "by": by, "at": _now()}
            return
        pack = self.standing(name).pack
        if pack is None:
            raise _broken(name)
        with self._turn() as record:
            record.licences[name] = {**_acceptance(pack, reason), "by": by}

    def keep_calibration(self, name: str, found: Calibration) -> None:
        """Keep a calibration; an evaluation and a drift that rest on an earlier one are void. Raises PackError."""
        self._need(name)
        with self._turn() as record:
            record.calibrations[name] = found.to_dict()
            for stale in (record.evaluations, record.enforced, record.drift):
                stale.pop(name, None)

    def keep_evaluation(self, name: str, found: Evaluation) -> None:
        """Keep what was measured at the frozen thresholds. Raises PackError."""
        self._need(name)
        with self._turn() as record:
            record.evaluations[name] = asdict(found)

    def keep_drift(self, name: str, psi: float, median: float) -> None:
        """Note that a pack's scores no longer are those it was calibrated on: it is advisory until calibrated anew."""
        with self._turn() as record:
            record.drift[name] = {"psi": round(psi, 4), "median": round(median, 4), "at": _now()}

    def enforce(self, name: str, by: str) -> Standing:
        """Let a pack decide (to review; a detector never refuses). Raises PackError `not_allowed_to_enforce`."""
        now = self.standing(name)
        if now.role == "refused" or now.code != "not_enforced":
            if now.role == "enforcing":
                return now
            raise PackError(
                "not_allowed_to_enforce",
                f"The pack {name} stays {now.role}: {now.detail or now.code} [{now.code}]. Nothing was changed. "
                "Calibrate it, evaluate it on files that neither it nor the calibration has seen, and try again.",
            )
        with self._turn() as record:
            record.enforced[name] = {"kind": now.kind, "by": by, "at": _now()}
        return self.standing(name)

    def relax(self, name: str) -> None:
        """Make a pack advisory again."""
        with self._turn() as record:
            record.enforced.pop(name, None)

    def _need(self, name: str) -> None:
        if not self.standing(name).sha256:
            raise _broken(name)

    def _standing(self, name: str, pack: Pack | ModelError, record: _Record, *, compare: bool) -> Standing:
        wanted = name in record.enforced
        if isinstance(pack, ModelError):
            kind = record.enforced.get(name, {}).get("kind", "")
            return Standing(name, kind, "refused", pack.code, pack.message, wanted=wanted)
        refused = ""
        path = self.folder / name / packs.MODEL
        if not path.is_file():
            refused = "pack_missing"
        elif path.stat().st_size != pack.size or (compare and sha256_of(path) != pack.sha256):
            refused = "model_hash_mismatch"
        elif not _accepted(pack, record):
            refused = "pack_licence_not_accepted"
        standing = _judged(Standing(name, pack.kind, "advisory", refused, pack=pack, wanted=wanted), record)
        # By its manifest's own threshold, together with others.
        return replace(standing, role="voting", code="", detail="") if pack.kind == "nsfw" and not refused else standing

    def _service(self, service: Service, record: _Record) -> Standing:
        leaves = record.services[service.id].get("reason", "")
        wanted = service.id in record.enforced
        one = Standing(service.id, service.kind, "advisory", "", wanted=wanted, service=service, leaves=leaves)
        return _judged(one, record)

    def _put(self, pack: Pack, path: Path) -> None:
        """The folder of a pack appears whole: made aside, then renamed over the earlier one."""
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        try:
            shutil.copyfile(path, aside / packs.MODEL)
            if sha256_of(aside / packs.MODEL) != pack.sha256:  # the file may change under us
                problem = f"The file for {pack.id} changed while it was read. It was not installed. Try again."
                raise PackError("model_hash_mismatch", problem)
            (aside / packs.INSTALLED).write_text(pack.to_json(), "utf-8")
            aside.chmod(0o755)
            target = self.folder / pack.id
            if target.exists():
                old = Path(tempfile.mkdtemp(prefix=".old-", dir=self.folder))
                target.rename(old / "pack")
                aside.rename(target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def _turn(self) -> Iterator[_Record]:
        """Hold the lock, give the record and write it back if nothing was raised."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with held(self.folder / ".packs.lock"):
                record = self._read()
                yield record
                write_atomically(self.folder / RECORD, json.dumps(asdict(record), indent=1).encode())
        except OSError as error:
            raise PackError(
                "write_failed",
                f"The folder of packs {self.folder} cannot be written ({error.strerror or error}). Nothing was "
                "changed.",
            ) from error

    def _read(self) -> _Record:
        try:
            return _Record(**json.loads((self.folder / RECORD).read_bytes()))
        except FileNotFoundError:
            return _Record()
        except (OSError, ValueError, TypeError) as error:
            raise PackError(
                "record_unreadable",
                f"The record of packs {self.folder / RECORD} cannot be read ({error}). No pack is used until then. "
                "Restore the file, or move it away and calibrate and evaluate again.",
            ) from error


def _judged(one: Standing, record: _Record) -> Standing:
    """What a pack or service may do by what was measured of it; one with a `code` is refused with that."""
    calibration, evaluation = _calibration(record, one), _evaluation(record, one)
    if evaluation is not None and calibration is not None and evaluation.calibration_date != calibration.date:
        evaluation = None
    code, detail = one.code, ""
    role: Role = "refused" if code else "advisory"
    if code:
        pass
    elif calibration is None:
        code, detail = "not_calibrated", "it was not calibrated on your own files"
    elif evaluation is None:
        code, detail = "not_evaluated", "it was not evaluated at the thresholds of its calibration"
    elif evaluation.problem():
        code, detail = "outside_bounds", evaluation.problem()
    elif one.id in record.drift:
        code, detail = "drifted", f"its scores have drifted (PSI {record.drift[one.id].get('psi')})"
    elif not one.wanted:
        code = "not_enforced"
    else:
        role = "enforcing"
    return replace(one, role=role, code=code, detail=detail, calibration=calibration, evaluation=evaluation)


def _broken(name: str) -> PackError:
    return PackError("pack_malformed", f"The manifest of {name} is broken. Nothing was changed. Install it again.")


def _calibration(record: _Record, one: Standing) -> Calibration | None:
    try:
        found = Calibration.of(record.calibrations[one.id])
    except (KeyError, CalibrationError):
        return None
    return found if found.pack_sha256 == one.sha256 else None


def _evaluation(record: _Record, one: Standing) -> Evaluation | None:
    try:
        found = Evaluation(**record.evaluations[one.id])
    except (KeyError, TypeError):
        return None
    return found if found.pack_sha256 == one.sha256 else None


def _accepted(pack: Pack, record: _Record) -> bool:
    return licence_allows(pack.licence, pack.commercial_use, record.licences.get(pack.id, {}).get("licence"))


def _acceptance(pack: Pack, reason: str) -> dict[str, str]:
    return {"licence": pack.licence, "reason": reason.strip(), "at": _now()}


def _plain(name: str) -> str:
    if name != Path(name).name or name.startswith("."):
        raise PackError("pack_unknown", f"{name!r} is no name of a pack. Nothing was changed.")
    return name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        problem = f"The file {path} cannot be read ({error.strerror}). Nothing was changed. Check its path."
        raise PackError("source_unavailable", problem) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
