"""A new job that replaces several faces: which ones, from which photos, and who is asked how often."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from consent import services as consents
from consent.models import Attestation, Consent
from tests.webapp import cast
from webapp.jobs.models import Asset, Job, Output

pytestmark = pytest.mark.django_db


class Draft:
    """Two photos and a target of three faces, in Cleo's browser."""

    def __init__(self, cleo: cast.Account) -> None:
        self.cleo = cleo
        files = ("astronaut.jpg", "grace_hopper.jpg")
        self.photos = [cast.ready(cleo, "source", path=cast.SAMPLES / name) for name in files]
        self.target = cast.ready(cleo, "target", faces=3)

    def pairs(self, of: dict[int, list[int]] | None = None) -> list[tuple[str, str]]:
        """What the pages before pass on: which photos (by their number here) go onto which face."""
        of = of if of is not None else {0: [0], 2: [1]}
        said = [("source", photo.pk) for photo in self.photos] + [("target", self.target.pk)]
        said += [("target_face", str(face)) for face in of]
        return said + [(f"photo_{face}", self.photos[n].pk) for face, numbers in of.items() for n in numbers]

    def page(self, of: dict[int, list[int]] | None = None) -> str:
        answer = self.cleo.browser.get(f"/new/permission?{urlencode(self.pairs(of))}")
        assert answer.status_code == 200
        return answer.content.decode()

    def send(self, of: dict[int, list[int]] | None = None, **changes: str | None) -> Any:
        """The form as somebody fills it in, with two people more for the second face."""
        said: dict[str, Any] = {"purpose": "personal", "donor_name": "Ada", "cover": "ask", "target_name": "Ben"}
        said |= {"donor_name_2": "Eve", "cover_2": "ask", "target_name_2": "Fay"}
        said |= {f"tick_{name}": "on" for name in cast.DECLARED} | changes
        body = [*self.pairs(of), *((name, value) for name, value in said.items() if value is not None)]
        return self.cleo.browser.post(
            "/new/permission", urlencode(body), content_type="application/x-www-form-urlencoded"
        )


@pytest.fixture
def draft(cleo: cast.Account) -> Draft:
    return Draft(cleo)


def shown(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_several_faces_can_be_ticked_and_the_page_says_that_the_others_stay(draft: Draft) -> None:
    html = draft.cleo.browser.get(f"/new/faces?{urlencode(draft.pairs())}").content.decode()
    ticks = re.findall(r'type="checkbox" name="target_face" value="(\d)"( checked)?', html)
    assert ticks == [("0", " checked"), ("1", ""), ("2", " checked")]  # what was chosen before is still chosen
    assert "A face that nobody ticks stays as it is." in html
    assert "1 other face in it stays as it is." in shown(draft.page())
    assert "other face" not in shown(draft.page({0: [0], 1: [0], 2: [1]}))


def test_with_several_faces_and_photos_somebody_has_to_say_which_go_where(draft: Draft) -> None:
    answer = draft.cleo.browser.get(f"/new/permission?{urlencode(draft.pairs({0: [], 2: []}))}")
    assert answer["Location"].startswith("/new/pairs?")
    html = draft.cleo.browser.get(answer["Location"]).content.decode()
    assert [f'name="photo_{face}"' in html for face in (0, 1, 2)] == [True, False, True]
    assert "checked" not in html
    assert "Nothing was sent" not in html
    half = draft.cleo.browser.get(f"/new/permission?{urlencode(draft.pairs({0: [1], 2: []}))}")
    html = draft.cleo.browser.get(half["Location"]).content.decode()
    assert "every face needs at least one photo" in html
    assert re.findall(r'name="(photo_\d)" value="\w+" checked', html) == ["photo_0"]


def test_one_face_takes_all_photos_and_is_asked_nothing_more_than_before(draft: Draft) -> None:
    query = urlencode(draft.pairs({1: []}))
    html = draft.cleo.browser.get(f"/new/permission?{query}").content.decode()
    assert "(1 of" not in html
    assert "_2" not in re.findall(r'name="(donor_name\w*)"', html)
    assert html.count(f'name="photo_1" value="{draft.photos[1].pk}"') == 1
    assert 'value="same_' not in html


def test_one_photo_goes_onto_every_ticked_face(cleo: cast.Account) -> None:
    source, target = cast.ready(cleo, "source"), cast.ready(cleo, "target", faces=3)
    query = f"source={source.pk}&target={target.pk}&target_face=0&target_face=1"
    html = cleo.browser.get(f"/new/permission?{query}").content.decode()
    assert "The same person as for Face 1, by the photos you chose." in html
    assert re.findall(r'name="(donor_name\w*)"', html) == ["donor_name"]


def test_each_pair_gets_its_own_people(draft: Draft) -> None:
    answer = draft.send()
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}"
    rows = [
        (swap.target_face, [photo.asset_id for photo in swap.photos.all()], swap.donor_consent.name)
        for swap in job.swaps.all()
    ]
    assert rows == [(0, [draft.photos[0].pk], "Ada"), (2, [draft.photos[1].pk], "Eve")]
    assert [cast.replaced(job, place).name for place in (0, 1)] == ["Ben", "Fay"]
    assert [cast.replaced(job, place).targets[0]["face"] for place in (0, 1)] == [0, 2]
    assert cast.donor(job, 1).photo_sha256s == [draft.photos[1].sha256]
    html = draft.cleo.browser.get(answer["Location"]).content.decode()
    assert len(set(re.findall(r'value="(http[^"]+/c/[^"]+)"', html))) == 4
    assert "whose face is replaced: face 3" in html
    assert html.count("/preview/0") == html.count("/preview/2") == 1


def test_one_donor_for_two_faces_is_asked_once_about_both(draft: Draft) -> None:
    draft.send({0: [0, 1], 1: [1]}, donor_name_2=None)
    job = Job.objects.get()
    donor = cast.donor(job)
    assert cast.donor(job, 1) == donor
    assert [target["face"] for target in donor.targets] == [0, 1]
    assert {photo["asset_id"] for photo in donor.photos} == {photo.pk for photo in draft.photos}
    assert Consent.objects.count() == 3


def test_the_same_photo_sent_twice_is_one_photo_of_the_donor(draft: Draft) -> None:
    draft.photos[1] = cast.ready(draft.cleo, "source", path=cast.SAMPLES / "astronaut.jpg")
    assert draft.send({0: [0, 1], 1: [1]}, donor_name_2=None).status_code == 302
    job = Job.objects.get()
    assert cast.donor(job).photo_sha256s == [draft.photos[0].sha256]
    assert [swap.photos.count() for swap in job.swaps.all()] == [2, 1]


def test_photos_shared_by_way_of_a_third_pair_still_mean_one_donor(draft: Draft) -> None:
    answer = draft.send({0: [0], 1: [1], 2: [0, 1]}, donor_name_2=None, target_name_3="Gil", cover_3="ask")
    assert answer.status_code == 302
    assert [target["face"] for target in cast.donor(Job.objects.get()).targets] == [0, 1, 2]
    assert Consent.objects.filter(role="face_donor").count() == 1


def test_the_same_replaced_person_is_asked_once_about_all_their_faces(draft: Draft) -> None:
    chain = {"cover_2": "same_0", "target_name_2": None, "cover_3": "same_1", "donor_name_3": "Gil"}
    draft.photos.append(cast.ready(draft.cleo, "source"))
    assert draft.send({0: [0], 1: [1], 2: [2]}, **chain).status_code == 302
    job = Job.objects.get()
    person = cast.replaced(job)
    assert [cast.replaced(job, place) for place in (1, 2)] == [person, person]
    assert [target["face"] for target in person.targets] == [0, 1, 2]


def test_rights_can_stand_in_for_one_or_for_both(draft: Draft) -> None:
    rights = {f"rights_{name}_2": "on" for name, _ in consents.target_rights_text("en").boxes}
    said = {"cover_2": "rights", "target_name_2": None, "basis_2": "owns_footage", **rights}
    incomplete = draft.send(**said)
    assert 'href="#statement_2"' in incomplete.content.decode()
    assert draft.send(**said, statement_2="We made this film in 2020 and all agreed.").status_code == 302
    job = Job.objects.get()
    assert [swap.target_attestation_id is None for swap in job.swaps.all()] == [True, False]
    assert "1 of the replaced people" in shown(draft.cleo.browser.get(f"/jobs/{job.pk}").content.decode())
    first = {name.removesuffix("_2"): value for name, value in said.items()} | {"cover_2": "same_0"}
    draft.send(**first, target_name_2=None, statement="We made this film in 2020 and all agreed.")
    latest = Job.objects.order_by("-created_at")[0]
    assert len({swap.target_attestation_id for swap in latest.swaps.all()}) == 1


@pytest.mark.parametrize("missing", ["donor_name_2", "target_name_2"])
def test_what_a_second_pair_lacks_is_named_by_its_face_and_nothing_is_made(draft: Draft, missing: str) -> None:
    answer = draft.send(**{missing: None}, donor_contact_2="eve@example.org")
    html = answer.content.decode()
    assert answer.status_code == 422
    assert f'href="#{missing}"' in html
    assert f'id="{missing}"' in html
    assert "(Face 3): Write the name" in html
    assert 'value="eve@example.org"' in html
    assert (Job.objects.count(), Consent.objects.count(), Attestation.objects.count()) == (0, 0, 0)


def test_a_service_that_refuses_a_second_pairs_address_is_shown_there(draft: Draft) -> None:
    answer = draft.send(target_contact_2="not an address at all")
    assert answer.status_code == 422
    assert "#target_contact_2" in answer.content.decode()
    assert (Job.objects.count(), Consent.objects.count(), Attestation.objects.count()) == (0, 0, 0)


def test_odd_pairs_are_not_there_or_too_many(draft: Draft, dan: cast.Account) -> None:
    foreign = cast.ready(dan, "source")
    for more in ([("target_face", "7")], [("photo_0", foreign.pk)], [("photo_0", "x")]):
        assert draft.cleo.browser.get(f"/new/permission?{urlencode(draft.pairs() + more)}").status_code == 404
    assert draft.send(cover_2="same_1").status_code == 302  # no such earlier pair: the person is asked
    Asset.objects.filter(pk=draft.target.pk).update(faces=[cast.face(n) for n in range(6)])
    many = draft.cleo.browser.get(f"/new/permission?{urlencode(draft.pairs({n: [0] for n in range(5)}))}", follow=True)
    assert many.redirect_chain[0][0].startswith("/new/faces?")
    assert "At most 4 faces" in many.content.decode()


def test_the_result_shows_what_was_measured_of_each_face(draft: Draft) -> None:
    draft.send()
    job = Job.objects.get()
    quality = {"0": {"distance_to_source": 0.31}, "2": {"distance_to_source": 0.42, "warnings": ["pose_gap_wide"]}}
    Job.objects.filter(pk=job.pk).update(state=Job.State.SUCCEEDED, quality=quality)
    Output.objects.create(
        organisation=job.organisation,
        job=job,
        mime="image/jpeg",
        sha256="0" * 64,
        size=1,
        object_name="output/x",
        key_id="key_x",
        mark_id=b"12345678",
        mark_key="local",
        manifest_label=f"urn:c2pa:{job.pk}",
        manifest_store=b"store",
    )
    text = shown(draft.cleo.browser.get(f"/jobs/{job.pk}/result").content.decode())
    assert re.search(r"Face 1 Distance to the source person 0\.31 .*Face 3 Distance to the source person 0\.42", text)
    assert "with the permission of the people shown." in text
