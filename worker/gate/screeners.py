"""Which of the gate's models are at hand on this machine, and the look of them at an upload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from worker.gate import content_policy, profiles, signals
from worker.gate.content_policy import KINDS
from worker.gate.looks.age import AgeLook
from worker.gate.looks.detectors import DetectorLook
from worker.gate.looks.looking import Look, look_at
from worker.gate.looks.nsfw import VOTES, NsfwLook
from worker.gate.looks.sampling import Sample, samples
from worker.gate.packs.outside import Outside
from worker.gate.packs.pack_store import PackStore
from worker.gate.packs.service_run import ServiceRun
from worker.gate.packs.standing import PackError, Standing, not_loaded
from worker.gate.signals import Signal
from worker.gate.upload import Upload
from worker.inference import gate_models, packs, registry
from worker.inference.connection import EngineClient, connect
from worker.inference.registry import ModelCard, ModelSet
from worker.inference.types import ModelError, ModelRunner
from worker.model_choice import accepted_licence, installed, licence_allows
from worker.pipeline.analysis import Analysis

BUILT: Final = ("nsfw", "age")
DETECTED: Final = packs.DETECTORS


@dataclass(frozen=True)
class Screeners:
    """What can look at uploads here, through `runner`.

    `cards` are the models of "nsfw" and "age" that may be used; `missing` says of a kind without any why ("not_built",
    "licence_not_accepted", "not_loaded", "no_engine"); `left_out` are further ones that the engine has not taken in;
    `failures` names kinds whose tool is there and cannot be asked.
    Services are asked `outside`.
    """

    runner: ModelRunner | None
    cards: Mapping[str, Sequence[ModelCard]]
    missing: Mapping[str, str]
    packs: Sequence[Standing]
    failures: Mapping[str, str]
    left_out: Sequence[str] = ()
    outside: Outside | None = None

    def look(self, upload: Upload, analysis: Analysis, others: Sequence[Look] = ()) -> list[Signal]:
        """The signals of all four kinds, in order, and of the `others`, which look at the same pictures.

        Raises MediaError, AnalysisError for a file that cannot be read.
        """
        found, looks = self._known(), [*self.looks(upload, analysis), *others]
        if looks:
            measured = look_at(self.pictures(upload, analysis, looks), looks)
            found |= {look.kind: signal for look, signal in zip(looks, measured, strict=True)}
        four = [found.get(kind) or Signal(kind, "not_installed", {"code": "no_pack"}) for kind in KINDS]
        return [*four, *(found[look.kind] for look in others)]

    def looks(self, upload: Upload, analysis: Analysis) -> list[Look]:
        """What will look at this upload, each once; `look_at` them with `pictures`, in this order: a service is sent
        nothing that this house refuses for nudity or age, and nothing where the look for these broke."""
        runner, found = self.runner, self._known()
        if runner is None:
            return []
        looks: list[Look] = []
        voters = [one for one in self.packs if one.kind == "nsfw"]
        if ("nsfw" in self.cards or len(voters) >= VOTES) and found.get("nsfw", _ABSENT).status == "not_installed":
            (card,) = self.cards.get("nsfw", [None])
            looks.append(NsfwLook(runner, card, voters))
        if "age" in self.cards and "age" not in found:
            looks.append(AgeLook(runner, self.cards["age"], analysis.tracks, self.left_out))
        own_looks = [_Noted(look) for look in looks]
        looks = [*own_looks]

        def may_leave() -> bool:
            return not any(kind in self.failures for kind in BUILT) and _harmless([one.signal for one in own_looks])

        for kind in DETECTED:
            own = [one for one in self.packs if one.kind == kind]
            if own and kind not in found:
                services = [
                    ServiceRun(one, self.outside, upload, may_leave=may_leave) for one in own if one.service is not None
                ]
                looks.append(
                    DetectorLook(kind, runner, own, analysis.tracks, video=upload.kind == "video", services=services)
                )
        return looks

    def pictures(self, upload: Upload, analysis: Analysis, looks: Sequence[Look]) -> Iterator[Sample]:
        """The pictures that these `looks` take. Raises MediaError, AnalysisError."""
        return samples(upload, analysis, dense=any(isinstance(one, DetectorLook) for one in looks))

    def _known(self) -> dict[str, Signal]:
        """What is said of a kind before anything is looked at."""
        found = {
            kind: Signal(kind, "not_installed", {"code": code})
            for kind, code in self.missing.items()
            if kind not in self.failures
        }
        return found | {kind: signals.failed(kind, code) for kind, code in self.failures.items()}


class _Noted:
    """A look whose signal is known to those after it; None where it broke."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self.kind = look.kind
        self.signal: Signal | None = None

    def take(self, sample: Sample) -> None:
        self._look.take(sample)

    def finish(self) -> Signal:
        self.signal = self._look.finish()
        return self.signal


def _harmless(seen: Sequence[Signal | None]) -> bool:
    """Whether nothing of what was seen is refused, and nothing that was asked broke."""
    known = {signal.kind: signal for signal in seen if signal is not None}
    verdicts = {rule.verdict for rule in content_policy.findings(known, profiles.named("strict"))}
    return len(known) == len(seen) and "reject" not in verdicts


_ABSENT: Final = Signal("nsfw", "not_installed")


@contextmanager
def opened(
    engine_socket: Path,
    *,
    models_dir: Path,
    operator_models: Path,
    gate_packs: Path,
    profile: str,
    outside: Outside | None = None,
) -> Iterator[Screeners]:
    """What is at hand, with a connection to the engine at `engine_socket` while it is used.

    An engine that does not answer is a failure of every kind that is installed, never an absence. `outside` is the way
    to the services that were accepted; without it they are unreachable.
    """
    cards, missing = built(models_dir, operator_models, profile)
    failures: dict[str, str] = {}
    try:
        standings = PackStore(gate_packs).standings()
    except PackError as error:
        standings, failures = [], dict.fromkeys(DETECTED, error.code)
    known = {card.name: card for some in cards.values() for card in some}
    models = ModelSet(gate=MappingProxyType(known)).with_gate(packs.present(gate_packs))
    if not cards and not standings:
        yield Screeners(None, cards, missing, standings, failures)
        return
    try:
        client = connect(engine_socket, "interactive", models)
    except ModelError as error:
        wanted = [*cards, *(one.kind for one in standings if one.role in ("enforcing", "voting") or one.wanted)]
        yield Screeners(None, {}, missing, standings, {**failures, **dict.fromkeys(wanted, error.code)})
        return
    with client:
        loaded = _loaded(client)
        usable = {kind: [one for card in some if (one := _taken_in(card, loaded))] for kind, some in cards.items()}
        missing |= {kind: "not_loaded" for kind, some in usable.items() if not some}
        usable = {kind: some for kind, some in usable.items() if some}
        used = {one.name for some in usable.values() for one in some}
        left_out = [card.name for kind in usable for card in cards[kind] if card.name not in used]
        yield Screeners(
            client, usable, missing, [_as_loaded(one, loaded) for one in standings], failures, left_out, outside
        )


def built(models_dir: Path, operator_models: Path, profile: str) -> tuple[dict[str, list[ModelCard]], dict[str, str]]:
    """The models of "nsfw" and "age" that may be used under `profile`, and of a kind without any why not.

    An operator's own come behind the one that is made at set-up; their hash is known to the engine only.
    """
    cards: dict[str, list[ModelCard]] = {}
    missing = {}
    there = gate_models.present(models_dir).gate
    for kind in BUILT:
        card = gate_models.of_role(kind)
        accepted = accepted_licence(operator_models, card.name)
        if card.name not in there:
            missing[kind] = "not_built"
        # An evaluation shows what could be used; elsewhere the operator answers for the licence.
        elif profile != "evaluation" and not licence_allows(card.licence, card.commercial_use, accepted):
            missing[kind] = "licence_not_accepted"
        else:
            cards[kind] = [card]
    for name in sorted(installed(operator_models)):
        own = registry.operator_models()[name].card
        if own.role in BUILT:
            cards.setdefault(own.role, []).append(own)
            missing.pop(own.role, None)
    return cards, missing


def _taken_in(card: ModelCard, loaded: Mapping[str, str]) -> ModelCard | None:
    """The card as the engine runs it; None where it was started before the model was there, or has another file."""
    if card.name in registry.operator_models():  # its import, of which only the engine knows the hash
        return replace(card, sha256=loaded[card.name]) if card.name in loaded else None
    return card if loaded.get(card.name) == card.sha256 else None


def _loaded(client: EngineClient) -> Mapping[str, str]:
    try:
        return {str(name): str(digest) for name, digest in client.status().get("gate", {}).items()}
    except (ModelError, AttributeError):
        return {}


def _as_loaded(standing: Standing, loaded: Mapping[str, str]) -> Standing:
    pack = standing.pack
    if pack is None or standing.role == "refused" or loaded.get(pack.model) == pack.sha256:
        return standing
    return not_loaded(standing)
