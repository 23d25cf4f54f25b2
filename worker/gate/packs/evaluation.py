"""Measure detector packs on a folder of an operator's own files: bona fide ones and attacks, each with its source."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from worker.gate.looks.detectors import PackRun, Run, file_score
from worker.gate.looks.sampling import Sample, samples
from worker.gate.packs import metrics
from worker.gate.packs.calibration import Calibration
from worker.gate.packs.metrics import Rates, Scored
from worker.gate.packs.outside import Outside
from worker.gate.packs.robustness import ROADS
from worker.gate.packs.service_run import ServiceRun
from worker.gate.packs.standing import Evaluation, PackError, Standing
from worker.gate.upload import Upload
from worker.inference.packages import sha256_of
from worker.inference.types import ModelRunner
from worker.media import client
from worker.media.errors import MediaError
from worker.pipeline import run as pipeline
from worker.pipeline.analysed import Track
from worker.pipeline.analysis import Analysis

BONA_FIDE: Final = "bona_fide"
ATTACK: Final = "attack"
AS_IT_IS: Final = "as it is"
COLUMNS: Final = ("file", "label", "species", "source")

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Entry:
    """One line of a manifest."""

    path: Path
    fake: bool
    species: str
    source: str
    group: str = ""


@dataclass(frozen=True)
class Measured:
    """What one pack said about one file on one road: the raw score 0..1, or why there is none."""

    entry: Entry
    score: float | None
    code: str = ""


def read_manifest(folder: Path, manifest: Path) -> list[Entry]:
    """The files to evaluate, from CSV with the columns file, label (bona_fide or attack), species, source and, if
    wanted, group. Files lie below `folder`. Raises PackError `manifest_malformed`."""
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _malformed(f"it cannot be read ({error})") from error
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise _malformed(f"it needs a line of the columns {', '.join(COLUMNS)}, and files below it")
    root = folder.resolve()
    entries = []
    for number, row in enumerate(rows, start=2):
        path = (folder / (row["file"] or "")).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise _malformed(f"line {number}: {row['file']} is no file below the folder")
        if row["label"] not in (BONA_FIDE, ATTACK):
            raise _malformed(f"line {number}: the label is neither {BONA_FIDE} nor {ATTACK}")
        if not row["source"] or (row["label"] == ATTACK and not row["species"]):
            raise _malformed(f"line {number}: every file has a source, every attack a species")
        entries.append(Entry(path, row["label"] == ATTACK, row["species"] or "", row["source"], row.get("group") or ""))
    return entries


def data_sha256(entries: Sequence[Entry]) -> str:
    """One hash for exactly these files with these labels, in any order."""
    lines = sorted(f"{sha256_of(one.path)} {one.fake} {one.species} {one.source}" for one in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def run_packs(
    entries: Sequence[Entry],
    standings: Sequence[Standing],
    runner: ModelRunner,
    engine_socket: Path,
    *,
    roads: Sequence[str] = (),
    outside: Outside | None = None,
    progress: Progress | None = None,
) -> dict[tuple[str, str], list[Measured]]:
    """What each pack says about each file, by (pack, road); the road `AS_IT_IS` is always among them.

    Every file is decoded and analysed once; a service is sent it `outside`, on no other road. One that cannot be read
    is not answered, with the error's code. Raises ModelError where the engine fails, PackError where a pack breaks:
    half an evaluation is none.
    """
    chosen: dict[str, Callable[[Sample], Sample]] = {AS_IT_IS: lambda sample: sample}
    chosen |= {road: ROADS[road] for road in roads}
    found: dict[tuple[str, str], list[Measured]] = {
        (one.id, road): [] for one in standings for road in chosen if one.service is None or road == AS_IT_IS
    }
    with TemporaryDirectory(prefix="imprimatur-evaluate-") as scratch:
        for number, entry in enumerate(entries):
            if progress is not None:
                progress(f"{number + 1} of {len(entries)} files", number / len(entries))
            try:
                scores = _one(
                    entry, standings, runner, engine_socket, scratch=Path(scratch), roads=chosen, outside=outside
                )
            except MediaError as error:
                scores = dict.fromkeys(found, Measured(entry, None, error.code))
            for key, measured in scores.items():
                found[key].append(measured)
    return found


def _one(
    entry: Entry,
    standings: Sequence[Standing],
    runner: ModelRunner,
    engine_socket: Path,
    *,
    scratch: Path,
    roads: Mapping[str, Callable[[Sample], Sample]],
    outside: Outside | None,
) -> dict[tuple[str, str], Measured]:
    sniffed = client.identify(entry.path)
    kind = sniffed.kind
    tracks: tuple[Track, ...] = ()
    pictures: Iterable[Sample]
    upload = Upload(entry.path, sniffed.mime, kind)
    if kind == "photo" and all(one.kind == "ai_image" for one in standings):
        pictures = [Sample(0.0, upload.photo, ())]  # no face is asked for
    else:
        out = scratch / "analysis"
        out.unlink(missing_ok=True)
        pipeline.analyse(entry.path, out, engine_socket=engine_socket, work_dir=scratch)
        analysis = Analysis.load(out)
        tracks = analysis.tracks
        pictures = samples(upload, analysis, dense=True)
    asked = {one.id: ServiceRun(one, outside, upload, may_leave=lambda: True) for one in standings if one.service}
    local = [one for one in standings if one.service is None]
    runs: dict[tuple[str, str], Run] = {(one.id, road): PackRun(runner, one, tracks) for one in local for road in roads}
    for sample in pictures if local else ():
        for road, change in roads.items():
            changed = change(sample)
            for one in local:
                runs[one.id, road].take(changed)
    runs |= {(name, AS_IT_IS): run for name, run in asked.items()}
    for service in asked.values():
        service.start()
    found = {}
    for key, run in runs.items():
        seen = run.finish()
        if seen.code:
            raise PackError(seen.code, f"The pack {key[0]} broke on {entry.path.name} ({seen.code}). Nothing was kept.")
        score = file_score(run.standing.kind, seen, video=kind == "video")
        found[key] = Measured(entry, score, "" if score is not None else "not_applicable")
    return found


@dataclass(frozen=True)
class Report:
    """The metrics of one pack, on the files as they are and on each road, at the threshold frozen by its calibration.

    Scores are probabilities where there is a calibration, else raw ones, and `brier` and `ece` are None.
    """

    pack: str
    pack_sha256: str
    data_sha256: str
    date: str
    calibrated: bool
    roads: Mapping[str, Rates]
    brier: float | None
    ece: float | None
    evaluation: Evaluation | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; what cannot be told is null."""
        return dict(_plain(asdict(self)))


def report(
    standing: Standing, measured: Mapping[str, Sequence[Measured]], data_sha256: str, *, seed: int = 0
) -> Report:
    """Sum up what a pack said, by road. Without a calibration there is no frozen threshold, and no right to decide."""
    calibration = standing.calibration
    threshold = calibration.review if calibration is not None else 0.5
    scored = {road: [_scored(one, calibration) for one in rows] for road, rows in measured.items()}
    by_road = {road: metrics.rates(rows, threshold, seed=seed) for road, rows in scored.items()}
    plain = by_road[AS_IT_IS]
    date = datetime.now(UTC).isoformat(timespec="seconds")
    brier, ece, evaluation = None, None, None
    if calibration is not None:
        told = [one for one in scored[AS_IT_IS] if one.score is not None]
        truth = np.array([one.fake for one in told], bool)
        probabilities = np.array([one.score for one in told], np.float64)
        brier = metrics.brier(truth, probabilities) if told else None
        ece = metrics.calibration_error(truth, probabilities) if told else None
        evaluation = Evaluation(
            pack_sha256=standing.sha256,
            calibration_date=calibration.date,
            data_sha256=data_sha256,
            date=date,
            bpcer=plain.bpcer,
            bona_fide_sources=plain.bona_fide_sources,
            apcer=dict(plain.apcer),
            sources=dict(plain.sources),
            auc=plain.auc,
        )
    return Report(
        standing.id, standing.sha256, data_sha256, date, calibration is not None, by_road, brier, ece, evaluation
    )


def check_apart(standing: Standing, data_sha256: str) -> None:
    """Raise PackError `same_data` where a pack is evaluated on the very files it was calibrated on."""
    if standing.calibration is not None and standing.calibration.data_sha256 == data_sha256:
        raise PackError(
            "same_data",
            f"The pack {standing.id} was calibrated on exactly these files; an evaluation on them says nothing. "
            "Nothing was kept. Take files of other sources.",
        )


def _scored(one: Measured, calibration: Calibration | None) -> Scored:
    score = one.score
    if score is not None and calibration is not None:
        score = float(calibration.curve([score])[0])
    return Scored(one.entry.fake, one.entry.species, one.entry.source, score, one.entry.group)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _malformed(detail: str) -> PackError:
    return PackError("manifest_malformed", f"The manifest of files cannot be used: {detail}. Nothing was measured.")
