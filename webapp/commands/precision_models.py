"""The words of `manage.py models quantise` and `manage.py models precision`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from worker.faces.types import Rgb
from worker.inference import precision, registry
from worker.inference.devices import Device
from worker.inference.proof import LowerPrecision
from worker.inference.quantise import Outcome, QuantiseError, SampleSet, check, quantise
from worker.inference.sessions import LocalRunner, ProviderPolicy
from worker.media.client import decode_image
from worker.media.errors import MediaError
from worker.pipeline import calibration

Progress = Callable[[str, float], None]
Policies = Mapping[str, precision.PrecisionPolicy]
_DEVICES: Final[tuple[Device, ...]] = ("cpu", "cuda", "tensorrt")
_LEAST_PICTURES: Final = 4


def policies_of(file: str) -> Policies:
    """The shipped policies with the operator's file over them, if there is one. Raises OSError and ValueError."""
    return precision.read_policies(precision.POLICY_PATH, *([Path(file)] if file else []))


def run(
    models_dir: Path,
    names: Sequence[str],
    wanted: LowerPrecision,
    *,
    policies: Policies,
    device: Device,
    folder: Path | None,
    keep: Sequence[str],
    seed: int,
    progress: Progress,
) -> Iterator[Outcome]:
    """Make and try `names` (all models with a policy, if none) one after the other.

    Raises QuantiseError and ModelError.
    """
    cards = [registry.card(name) for name in names or [n for n in registry.cards() if n in policies]]
    for card in cards:
        check(models_dir, card, tuple(keep))
    pictures = [] if folder is None else read_pictures(folder, _part(progress, 0.0, 0.1))
    # The samples are what float32 models make of the pictures, on whatever device the result is tried.
    full = LocalRunner(models_dir, precisions={})
    found = calibration.collect(full, pictures, seed=seed, progress=_part(progress, 0.1, 0.4))
    tried = LocalRunner(models_dir, providers=ProviderPolicy("require", (device,)), precisions={})
    for index, card in enumerate(cards):
        sets = SampleSet(*(part.get(card.name, {}) for part in (found.calibration, found.gate, found.drawn)))
        first, last = (0.4 + 0.6 * (index + step) / len(cards) for step in (0, 1))
        yield quantise(
            models_dir,
            card,
            wanted,
            sets,
            lambda data, card=card: tried.open_trial(card, data),  # type: ignore[misc]
            device=device,
            policy=policies.get(card.name),
            keep=tuple(keep),
            progress=_part(progress, first, last),
        )


def read_pictures(folder: Path, progress: Progress) -> list[Rgb]:
    """Every picture of a folder, by name, decoded in a media child. QuantiseError "samples_invalid"."""
    pictures = []
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise QuantiseError("samples_invalid", f"The folder {folder} cannot be read ({error.strerror}).") from error
    for index, path in enumerate(paths):
        progress(f"reading {path.name}", index / len(paths))
        try:
            pictures.append(decode_image(path))
        except MediaError:
            continue  # notes and lists lie among pictures
    if len(pictures) < _LEAST_PICTURES:
        raise QuantiseError(
            "samples_invalid",
            f"The folder {folder} holds {len(pictures)} pictures that can be read; at least {_LEAST_PICTURES} are "
            "needed, half of them to calibrate and half to judge.",
        )
    return pictures


def words(outcome: Outcome, policies: Policies) -> Iterator[str]:
    """The gate's table, what the file costs and saves, and whether it is used."""
    record = outcome.record
    yield f"{record.model} in {record.precision}, on {record.place}"
    if outcome.problem:
        yield f"  could not be tried: {outcome.problem}"
    yield f"  {'metric':22} {'value':>10}  {'limit':18} pass"
    for line in outcome.lines:
        value = "-" if line.value is None else f"{line.value:.4g}"
        limit = "" if line.limit is None else f"{line.bound} {line.limit:g}"
        yield f"  {line.metric:22} {value:>10}  {limit:18} {('yes' if line.passed else 'NO') if limit else ''}".rstrip()
    before, after = outcome.size_full, outcome.size_lower
    yield f"  file  {before / 1e6:.2f} MB -> {after / 1e6:.2f} MB ({after / before:.0%})"
    if not outcome.problem:
        first, second = outcome.milliseconds_full, outcome.milliseconds_lower
        yield f"  CPU   {first:.2f} ms -> {second:.2f} ms ({second / first:.0%}) a run at batch 1, one thread"
    if outcome.path is None:
        yield "  REFUSED: the model goes on in float32; no file was left."
        return
    yield f"  passed: {outcome.path.name}"
    wanting = [d for d in _DEVICES if policies[record.model].wanted_on(d) == record.precision]
    if wanting:
        yield f"  wanted on: {', '.join(wanting)}"
    else:
        yield "  wanted on no device, so it is not used; IMPRIMATUR_PRECISION may name a file that wants it"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON types; a time that was not measured is null."""
    times = {
        name: None if value != value else round(value, 3)  # noqa: PLR0124 - not a number
        for name, value in (("cpu_ms_fp32", outcome.milliseconds_full), ("cpu_ms", outcome.milliseconds_lower))
    }
    return {
        "model": outcome.record.model,
        "precision": outcome.record.precision,
        "passed": outcome.path is not None,
        "file": None if outcome.path is None else outcome.path.name,
        "problem": outcome.problem or None,
        "gate": [asdict(line) for line in outcome.lines],
        "bytes_fp32": outcome.size_full,
        "bytes": outcome.size_lower,
        **times,
        "record": asdict(outcome.record),
    }


def states(models_dir: Path, policies: Policies) -> Mapping[str, Mapping[str, str]]:
    """What would be opened, by model and device, in words."""
    return {
        card.name: {device: precision.state(models_dir, card, device, policies=policies) for device in _DEVICES}
        for card in registry.cards().values()
    }


def _part(progress: Progress, first: float, last: float) -> Progress:
    return lambda what, fraction: progress(what, first + (last - first) * fraction)
