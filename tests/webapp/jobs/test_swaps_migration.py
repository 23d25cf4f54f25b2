"""Jobs of before keep their face, their permissions and their photos, as the first of their replacements."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import fresh_postgresql, run_migrating

SCRIPT = """
get = at("0005_segments")
now = timezone.now()
organisation = get("accounts", "Organisation").objects.create(name="S")
subject = get("consent", "Subject").objects.create(key_id="key_1")
made = dict(organisation_id="org_1", subject=subject, organisation_name="S", valid_until=now, link_expires_at=now)
donor, person = (
    get("consent", "Consent").objects.create(id=f"cns_{n}", token_sha256=str(n), **made) for n in range(2)
)
texts = [
    get("consent", "Attestation").objects.create(
        id=f"att_{n}", organisation_id="org_1", made_by="1", kind="declaration", text_sha256="0" * 64, at=now
    )
    for n in range(3)
]
files = [
    get("jobs", "Asset").objects.create(
        id=f"ast_{n}", organisation=organisation, role="source", sha256=str(n) * 64, size=1, object_name="x", key_id="k"
    )
    for n in range(3)
]
common = dict(organisation=organisation, target=files[0], donor_consent=donor)
Job = get("jobs", "Job")
Job.objects.create(id="job_a", declaration=texts[0], target_face=3, target_consent=person, **common)
Job.objects.create(id="job_b", declaration=texts[1], target_attestation=texts[2], **common)
for job, file, face, position in (("job_a", files[2], 5, 0), ("job_a", files[1], 0, 1), ("job_b", files[1], 2, 0)):
    get("jobs", "JobSource").objects.create(job_id=job, asset=file, face=face, position=position)

get = at("0006_swaps")
def seen():
    return [
        (
            swap.job_id, swap.position, swap.target_face, swap.donor_consent_id, swap.target_consent_id,
            swap.target_attestation_id,
            [(each.asset_id, each.face) for each in swap.photos.order_by("position")],
        )
        for swap in get("jobs", "JobSwap").objects.order_by("job_id")
    ]
EXPECTED = [
    ("job_a", 0, 3, "cns_0", "cns_1", None, [("ast_2", 5), ("ast_1", 0)]),
    ("job_b", 0, 0, "cns_0", None, "att_2", [("ast_1", 2)]),
]
assert seen() == EXPECTED, seen()

get = at("0005_segments")
back = get("jobs", "Job").objects.get(pk="job_a")
assert (back.target_face, back.donor_consent_id, back.target_consent_id) == (3, "cns_0", "cns_1")
assert [each.asset_id for each in get("jobs", "JobSource").objects.filter(job="job_a").order_by("position")] == [
    "ast_2", "ast_1"
]
get = at("0006_swaps")
assert seen() == EXPECTED, seen()

get("jobs", "JobSwap").objects.create(
    job_id="job_a", position=1, target_face=4, donor_consent_id="cns_0", target_consent_id="cns_1"
)
try:
    at("0005_segments")
except RuntimeError as error:
    assert "several replacements" in str(error)
assert get("jobs", "JobSwap").objects.count() == 3
print("kept")
"""


def test_jobs_of_before_become_jobs_of_one_replacement_on_sqlite(tmp_path: Path) -> None:
    run_migrating("jobs", SCRIPT, tmp_path, f"sqlite:///{tmp_path / 'main.sqlite3'}")


@pytest.mark.postgres
def test_jobs_of_before_become_jobs_of_one_replacement_on_postgresql(tmp_path: Path) -> None:
    with fresh_postgresql() as url:
        run_migrating("jobs", SCRIPT, tmp_path, url)
