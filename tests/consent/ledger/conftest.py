"""A house with a history in which every table that counts has rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consent import ledger, services
from consent.ledger import house as signers
from consent.portal import restriction

OTHER = services.PhotoRef("ast_held", "8" * 64)  # a picture about which nobody said no


@pytest.fixture
def history(db: None, house: Any) -> Callable[[], None]:
    """Makes the history: consents in several states, uses, declarations, audit, gate evidence; two checkpoints."""

    def make() -> None:
        boxes = dict(services.declaration_text("en").boxes)
        used = house.given(max_outputs=2)
        for job in ("job_a", "job_b"):
            assert services.reserve_use(used.id, job_id=job, use=house.use()).ok
        services.count_use(used.id, "job_a")
        services.release_use(used.id, "job_b")
        ledger.sequence()
        services.attest_declaration(organisation_id="org", made_by="1", ticks=dict.fromkeys(boxes, True), locale="en")
        house.in_state("withdrawn")
        house.in_state("refused")
        ledger.audit("usr_mod", "viewed_face", used.id, "Complaint 17")
        ledger.audit("usr_mod", "exported", used.id, "")
        restriction.restrict_consent(house.given("target_person"))
        restriction.restrict_all(house.given(contact="held@example.org", photos=[OTHER]).subject)
        ledger.sequence()
        signers.remember(ledger.checkpoint())  # what follows the commit, which a test's own transaction never sees

    return make
