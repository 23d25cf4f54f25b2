"""The whole way of a job through real processes: upload, screening, consent, swap, mark, signature, publication."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_a_photo_job_publishes_one_output_whose_mark_and_manifest_verify(
    house: Any, samples: Path, tmp_path: Path
) -> None:
    house.start_worker()
    source = house.upload_ready(samples / "astronaut.jpg", "source")
    target = house.upload_ready(samples / "grace_hopper.jpg", "target")
    donor = house.do("ask", role="face_donor", source=source, give=False)
    person = house.do("ask", role="target_person", target=target)
    job_id = house.do("submit", source=source, target=target, donor=donor, person=person)
    assert house.wait_job(job_id, "awaiting_consent")["output"] is None
    house.do("agree", consent_id=donor)
    found = house.wait_job(job_id, "succeeded")
    assert found["outputs"] == 1
    assert [event[1] for event in found["events"]] == [
        "queued",
        "screening",
        "awaiting_consent",
        "ready",
        "running",
        "finishing",
        "succeeded",
    ]
    output = house.do("output", job_id=job_id, dest=str(tmp_path / "out.jpg"))
    assert output["mark_read"] == output["mark_recorded"]
    assert output["mark_in_manifest"] == [output["mark_recorded"]]
    assert (output["credentials"], output["is_ours"], output["livemode"]) == ("trusted", True, False)
    assert output["fingerprints"] == 1
    assert house.do("uses", consent_id=donor) == {"counted": 1}
    assert house.do("uses", consent_id=person) == {"counted": 1}
    house.wait(lambda: house.do("work_folders") == 0)
    house.do("withdraw", consent_id=person)
    assert house.do("output_refused", job_id=job_id) == "output_withdrawn"
