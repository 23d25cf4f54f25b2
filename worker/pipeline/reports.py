"""JSON-able records of what a run found out about its own result."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from watermark.fingerprint import Fingerprint
from worker.faces.quality import Quality


def quality_record(judged: Sequence[Quality], yaw: float | None = None, **more: Any) -> dict[str, Any]:
    """Sum up the judged frames of one replaced face: medians of the distances, the worst pose, all warnings.

    `yaw` is the target's own in degrees; `more` is added as it is.
    """
    if not judged:
        return {"frames_judged": 0, "warnings": ["not_judged"], **more}
    record: dict[str, Any] = {
        name: round(float(median(getattr(one, name) for one in judged)), 4)
        for name in ("distance_to_source", "distance_to_target", "target_source_before", "sharpness")
    }
    record["yaw_gap"] = round(float(max(one.yaw_gap for one in judged)), 2)
    record["warnings"] = sorted({warning for one in judged for warning in one.warnings})
    record["frames_judged"] = len(judged)
    if yaw is not None:
        record["target_yaw"] = round(yaw, 2)
    return {**record, **more}


def fingerprint_record(taken: Sequence[tuple[float, Fingerprint]], kind: str) -> dict[str, Any]:
    """Return {"kind", "frames": [{"seconds", "fingerprint"}]}: one entry for a photo, one per second for a video."""
    frames = [{"seconds": round(seconds, 3), "fingerprint": one.to_json()} for seconds, one in taken]
    return {"kind": kind, "frames": frames}
