"""What the gate refuses or holds in these tests, through the services that a worker calls."""

from __future__ import annotations

from typing import Any

from webapp.jobs import intake, running
from webapp.jobs.models import Asset, Job
from webapp.screening import services
from webapp.screening.models import Review
from worker.gate import policy, profiles, signals

NOBODY_NEAR = signals.listed_face([], entries=3, threshold=0.45, one_to_many=False, chance=0.005)
ON_THE_LIST = signals.listed_face([0], entries=3, threshold=0.45, one_to_many=True, chance=0.001)


def decision(**changes: Any) -> policy.GateDecision:
    """The gate's decision on a target with nothing wrong but `changes`."""
    found = {
        "dimensions": signals.dimensions(512, 512, None),
        "faces": signals.faces("target", [180.0]),
        "markable": signals.markable(None),
        "own_mark": signals.own_mark(None, "full"),
        "stay_down": signals.stay_down("", 0),
        "credentials": signals.credentials("none", is_ours=False, issuer=None, source_types=[]),
        "listed_face": NOBODY_NEAR,
        **changes,
    }
    everything = [*found.values(), *signals.not_installed()]
    return policy.decide_asset(everything, profiles.named("evaluation"), "target")


def refused(stage: Any, **changes: Any) -> Asset:
    """A target that the gate refused: too small a face, unless told otherwise."""
    changes = changes or {"faces": signals.faces("target", [20.0])}
    return settled(stage, decision(**changes))


def settled(stage: Any, decided: policy.GateDecision) -> Asset:
    """An upload of Cleo's with this decision."""
    asset = intake.claim_asset(stage.upload("target").pk, "screener")
    assert asset is not None
    faces = [{"index": 0, "box": [10, 10, 90, 90], "size": 90.0, "yaw": 0.0}]
    media = {"kind": "photo", "mime": "image/jpeg", "width": 512, "height": 512, "duration": None}
    assert intake.record_intake(asset.pk, "screener", media=media, faces=faces, analysis_name="", previews={})
    assert services.settle_asset(decided, asset.pk, "screener")
    asset.refresh_from_db()
    return asset


def refused_job(stage: Any, **submitted: Any) -> Job:
    """A job that the gate refused: its photos show somebody else."""
    job = stage.submit(**submitted)
    assert running.claim_job(job.pk, "gate", from_state="queued", to_state="screening") is not None
    found = [
        signals.identity([0.9]),
        signals.pose(1, 0, 3.0),
        signals.assurance(["L1", "L1"]),
        signals.asset_profiles(["evaluation", "evaluation"]),
        signals.relationships(["", ""]),
        *signals.not_installed(),
    ]
    decided = policy.decide_job(found, profiles.named("evaluation"))
    assert services.settle_job(decided, job.pk, "gate")
    job.refresh_from_db()
    assert (job.state, job.failure_code) == ("refused", "identity_mismatch")
    return job


def held(stage: Any, *reasons: str) -> tuple[Asset, Review]:
    """An upload in review for these reasons."""
    from dataclasses import replace

    decided = replace(decision(), decision="review", reasons=reasons, message="")
    asset = settled(stage, decided)
    assert asset.state == "in_review"
    return asset, Review.objects.get(screening__asset=asset)
