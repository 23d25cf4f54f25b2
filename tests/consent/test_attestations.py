"""What accounts declare: complete or not at all, in words that are kept."""

from __future__ import annotations

import hashlib

import pytest

from consent import services
from consent.errors import ConsentError
from consent.models import Attestation, DataKey

pytestmark = pytest.mark.django_db


def _ticks(text) -> dict[str, bool]:
    return {name: True for name, _ in text.boxes}


@pytest.mark.parametrize("locale", ["en", "zh-hans"])
def test_a_declaration_keeps_words_ticks_and_maker(locale: str) -> None:
    text = services.declaration_text(locale)
    made = services.attest_declaration(organisation_id="org_a", made_by="7", ticks=_ticks(text), locale=locale)
    kept = Attestation.objects.get(pk=made.pk)
    assert (kept.kind, kept.organisation_id, kept.made_by, kept.locale) == ("declaration", "org_a", "7", locale)
    assert kept.text_sha256 == hashlib.sha256(text.text.encode()).hexdigest()
    assert kept.text_version == text.version
    assert kept.ticks == {
        "people_named": True,
        "rights_in_target": True,
        "no_minors": True,
        "nothing_sexual": True,
        "labels_stay": True,
    }
    assert kept.statement == ""


def test_every_box_of_the_declaration_is_needed() -> None:
    text = services.declaration_text("en")
    for name, _ in text.boxes:
        with pytest.raises(ConsentError) as error:
            services.attest_declaration(
                organisation_id="o", made_by="7", ticks={**_ticks(text), name: False}, locale="en"
            )
        assert error.value.code == "declaration_incomplete"
        assert error.value.fields == {name: "tick_required"}
    assert not Attestation.objects.exists()


def test_a_box_that_is_not_there_cannot_be_ticked() -> None:
    text = services.declaration_text("en")
    with pytest.raises(ConsentError) as error:
        services.attest_declaration(organisation_id="o", made_by="7", ticks={**_ticks(text), "more": True}, locale="en")
    assert "ticks" in error.value.fields


def _rights(**changes) -> Attestation:
    return services.attest_target_rights(
        **{
            "organisation_id": "org_a",
            "made_by": "7",
            "basis": "licensed",
            "statement": "We license it from Ben Okri's agency, contract 12.",
            "ticks": _ticks(services.target_rights_text("en")),
            "target_sha256": "c" * 64,
            **changes,
        }
    )


def test_rights_in_a_target_are_stated_in_own_words_which_lie_sealed() -> None:
    made = Attestation.objects.get(pk=_rights().pk)
    assert (made.kind, made.basis, made.target_sha256) == ("target_rights", "licensed", "c" * 64)
    assert made.statement == "We license it from Ben Okri's agency, contract 12."
    assert b"Okri" not in bytes(made.statement_sealed)
    assert DataKey.objects.get(pk=made.key_id).owner == f"attestation:{made.pk}"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"basis": "because"}, "basis"),
        ({"basis": ""}, "basis"),
        ({"statement": "we may"}, "statement"),
        ({"statement": " " * 40}, "statement"),
        ({"statement": "x" * 2001}, "statement"),
        ({"target_sha256": "c" * 63}, "target_sha256"),
        ({"ticks": {}}, "statement_true"),
    ],
)
def test_rights_that_are_not_stated_completely_are_not_recorded(changes, field) -> None:
    with pytest.raises(ConsentError) as error:
        _rights(**changes)
    assert field in error.value.fields
    assert not Attestation.objects.exists()


def test_every_ground_has_words_in_both_languages() -> None:
    codes = [code for code, _ in services.rights_bases("en")]
    assert codes == ["owns_footage", "licensed", "public_domain", "parody_reviewed"]
    assert codes == [code for code, _ in services.rights_bases("zh-hans")]
    assert all(_rights(basis=code).basis == code for code in codes)
