"""What may be believed of a detector pack or a service, and so what it may do: see `pack_store`, which keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from worker.gate.packs.calibration import Calibration
from worker.gate.packs.outside_services import Service
from worker.inference.packs import Pack

Role = Literal["enforcing", "advisory", "voting", "refused"]
LARGEST_BPCER: Final = 0.05
LARGEST_APCER: Final = 0.20
LEAST_SOURCES: Final = 50


class PackError(Exception):
    """Something that cannot be done with a pack; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Evaluation:
    """What `gate evaluate` measured, as far as the right to decide rests on it.

    `apcer` and `sources` by attack species; `bpcer` and `apcer` at the frozen review threshold.
    """

    pack_sha256: str
    calibration_date: str
    data_sha256: str
    date: str
    bpcer: float
    bona_fide_sources: int
    apcer: Mapping[str, float]
    sources: Mapping[str, int]
    auc: float

    def problem(self) -> str:
        """Why it does not allow to decide, "" if it does: the bounds of the gate's reference, section 10."""
        if not self.apcer:
            return "no attacks were evaluated"
        if not self.bpcer <= LARGEST_BPCER:
            return f"BPCER is {self.bpcer:.1%}, at most {LARGEST_BPCER:.0%} is allowed"
        counts = {"bona fide files": self.bona_fide_sources, **self.sources}
        if few := [name for name, count in counts.items() if count < LEAST_SOURCES]:
            return f"fewer than {LEAST_SOURCES} sources of {', '.join(few)}"
        worst = max(self.apcer, key=lambda name: self.apcer[name])
        if not all(share <= LARGEST_APCER for share in self.apcer.values()):
            return f"APCER of {worst} is {self.apcer[worst]:.1%}, at most {LARGEST_APCER:.0%} is allowed"
        return ""


@dataclass(frozen=True)
class Standing:
    """One pack or service as it stands: `code` says why it is not enforcing, "" if it is. Both `pack` and `service` are
    None for a broken manifest; `leaves` is why the operator lets uploads leave this house for a service."""

    id: str
    kind: str
    role: Role
    code: str
    detail: str = ""
    pack: Pack | None = None
    calibration: Calibration | None = None
    evaluation: Evaluation | None = None
    wanted: bool = False  # the operator asked for it to decide
    service: Service | None = None
    leaves: str = ""

    @property
    def sha256(self) -> str:
        """What measurements of it are bound to; "" for a broken manifest."""
        known = self.pack or self.service
        return known.sha256 if known is not None else ""

    @property
    def title(self) -> str:
        """Its name to read; "" for a broken manifest."""
        known = self.pack or self.service
        return known.title if known is not None else ""


def not_loaded(standing: Standing) -> Standing:
    """The same pack where the engine has not taken it in: it cannot be run until the workers start again."""
    wanted = standing.wanted or standing.role == "enforcing"
    detail = "the workers were started before it was installed; start them again"
    return replace(standing, role="refused", code="pack_not_loaded", detail=detail, wanted=wanted)
