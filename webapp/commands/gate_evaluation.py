"""`manage.py gate evaluate` and `calibrate`: run packs on the operator's own files, say how good they are, keep it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from webapp.commands.progress import ProgressBar
from worker.gate.packs import calibration, evaluation, plots
from worker.gate.packs.evaluation import AS_IT_IS, Entry, Measured, Report
from worker.gate.packs.pack_store import PackStore
from worker.gate.packs.robustness import ROADS
from worker.gate.packs.standing import PackError, Standing
from worker.inference import packs
from worker.inference.client import ensure_engine
from worker.inference.connection import connect
from worker.outside_door import outside

HELP = """\
The manifest is a CSV file with the columns file, label (bona_fide or attack), species, source and, if you like, group.
A source is a person or recording: intervals are drawn by source, because the files of one are no independent evidence.
Take other sources for the evaluation than for the calibration.

  manage.py gate calibrate FOLDER --manifest M.csv --pack P [--method platt|isotonic] [--bpcer 0.03]
  manage.py gate evaluate FOLDER --manifest M.csv [--pack P] [--roads] [--json] [--out FIGURES]
  manage.py gate drift                    this week's scores of each pack against those of its calibration

`evaluate` prints AUC with its interval, APCER of each attack species, BPCER at the threshold that calibration froze,
files without an answer, calibration error, and how many alarms are right where attacks are rare; with --roads all of it
again after JPEG, half size, a crop and H.264. It is kept, and `packs enforce` goes by it."""


def calibrate(folder: Path, manifest: Path, pack: str, method: calibration.Method, bpcer: float) -> Iterator[str]:
    """Fit and keep a calibration. Raises PackError, CalibrationError, ModelError."""
    entries = evaluation.read_manifest(folder, manifest)
    (standing,) = _chosen(_store(), pack)
    rows = _measure(entries, [standing], ())[standing.id, AS_IT_IS]
    told = [row for row in rows if row.score is not None]
    found = calibration.calibrate(
        [row.score for row in told if row.score is not None],
        [row.entry.fake for row in told],
        method,
        pack_sha256=standing.sha256,
        data_sha256=evaluation.data_sha256(entries),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        bpcer=bpcer,
    )
    _store().keep_calibration(standing.id, found)
    yield f"{standing.id} is calibrated ({method}) on {found.bona_fide} bona fide files and {found.attacks} attacks;"
    yield f"{len(rows) - len(told)} files gave no answer."
    yield f"Frozen: to review from {found.review:.4f}, likely from {found.high:.4f}."
    yield "Now evaluate it on files of other sources."


def evaluate(
    folder: Path, manifest: Path, pack: str, *, roads: bool, as_json: bool, figures: Path | None, seed: int
) -> Iterator[str]:
    """Measure, say and keep. Raises PackError, ModelError."""
    if figures is not None and not plots.available():
        raise PackError(
            "figures_unavailable",
            "Figures need matplotlib, which is not installed. Nothing was measured. "
            "Install it (pip install matplotlib), or leave out --out.",
        )
    entries = evaluation.read_manifest(folder, manifest)
    data = evaluation.data_sha256(entries)
    standings = _chosen(_store(), pack)
    for one in standings:
        evaluation.check_apart(one, data)
    measured = _measure(entries, standings, tuple(ROADS) if roads else ())
    reports = []
    for one in standings:
        rows = {road: found for (name, road), found in measured.items() if name == one.id}
        report = evaluation.report(one, rows, data, seed=seed)
        reports.append(report)
        if report.evaluation is not None:
            _store().keep_evaluation(one.id, report.evaluation)
        if figures is not None:
            figures.mkdir(parents=True, exist_ok=True)
            plots.draw(report, rows[AS_IT_IS], one.calibration, figures / f"{one.id}.png")
    if as_json:
        yield json.dumps([report.to_json() for report in reports], indent=1)
        return
    for report in reports:
        yield from table(report)
        yield from _verdict(_store().standing(report.pack))


def table(report: Report) -> Iterator[str]:
    """A report as lines of text."""
    plain = report.roads[AS_IT_IS]
    yield f"{report.pack} ({report.pack_sha256[:12]}), {plain.files} files, {plain.attacks} attacks, {report.date}"
    yield (
        f"  AUC {_number(plain.auc)} (95 % by source {_number(plain.auc_low)} to {_number(plain.auc_high)}), "
        f"BPCER20 {_share(plain.bpcer20)}, BPCER100 {_share(plain.bpcer100)}"
    )
    frozen = "frozen by its calibration" if report.calibrated else "not calibrated, so the middle of the raw score"
    yield f"  at the threshold {plain.threshold:.4f} ({frozen}):"
    yield f"    BPCER {_share(plain.bpcer)} of {plain.bona_fide_sources} sources, to review {_share(plain.review_rate)}"
    for species, missed in plain.apcer.items():
        yield f"    APCER {_share(missed)} of {plain.sources[species]} sources of {species}"
    for group, alarms in plain.groups.items():
        yield f"    BPCER {_share(alarms)} in the group {group}"
    yield f"    no answer: attacks {_share(plain.apnrr)}, bona fide {_share(plain.bpnrr)}"
    rare = ", ".join(f"{_share(right)} at {_share(prevalence)}" for prevalence, right in plain.precision.items())
    yield f"    alarms that are right, by the share of attacks among the files: {rare}"
    if report.brier is not None and report.ece is not None:
        yield f"  calibration: Brier {report.brier:.4f}, ECE {report.ece:.4f}"
    for road, rates in report.roads.items():
        if road != AS_IT_IS:
            worst = rates.worst_species
            words = f", worst APCER {_share(rates.apcer[worst])} ({worst})" if worst else ""
            yield f"  {road:14} AUC {_number(rates.auc)}, BPCER {_share(rates.bpcer)}{words}"


def _verdict(standing: Standing) -> Iterator[str]:
    if standing.code == "not_enforced":
        yield f"  Within bounds: `manage.py gate packs enforce {standing.id}` lets it decide."
    else:
        yield f"  It is {standing.role}" + (f": {standing.detail or standing.code}." if standing.code else ".")


def _measure(
    entries: Sequence[Entry], standings: Sequence[Standing], roads: Sequence[str]
) -> dict[tuple[str, str], list[Measured]]:
    """Run the packs through the engine of this home, which is started if none answers."""
    engine = ensure_engine(settings.HOME)
    models = packs.present(Path(settings.GATE_PACKS_DIR))
    with connect(engine, "offline", models) as client, ProgressBar("evaluate") as bar:
        loaded = client.status().get("gate", {})
        for one in standings:
            if one.pack is not None and loaded.get(one.pack.model) != one.pack.sha256:
                raise PackError(
                    "pack_not_loaded",
                    f"The engine was started before {one.id} was installed. Nothing was measured. Stop the workers, "
                    "wait until the engine has ended, and try again.",
                )
        return evaluation.run_packs(
            entries, standings, client, engine, roads=roads, outside=outside(), progress=bar.show
        )


def _chosen(store: PackStore, pack: str) -> list[Standing]:
    found = [store.standing(pack)] if pack else [one for one in store.standings(compare=True) if one.role != "refused"]
    if not pack:
        found = [one for one in found if one.kind in packs.DETECTORS]
    for one in found:
        if one.kind == "nsfw":
            problem = (
                f"The pack {one.id} votes by its own threshold and has no score to calibrate. Nothing was measured."
            )
            raise PackError("pack_votes", problem)
        if one.role == "refused":
            raise PackError(
                one.code, f"The pack {one.id} cannot be run: {one.detail or one.code}. Nothing was measured."
            )
    if not found:
        raise PackError("pack_unknown", "No pack is installed that could be measured. See `manage.py gate packs`.")
    return found


def _store() -> PackStore:
    return PackStore(Path(settings.GATE_PACKS_DIR))


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


def _share(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.1%}"


def options(parser: Any) -> None:
    """The arguments that both share."""
    parser.add_argument("folder", type=Path, help="where the files of the manifest lie")
    parser.add_argument("--manifest", type=Path, required=True, metavar="CSV", help="which file is what")
