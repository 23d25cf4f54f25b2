"""Runs as a child: moderators and accounts act on the same reviews at one moment, and what came of it is checked.

`python review_racing.py ROUNDS`, with DATABASE_URL and KEYS_URL set; says "held" at the end.
"""

from __future__ import annotations

import queue
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any


def at_once(acts: list[Callable[[], str]]) -> Counter[str]:
    """Do all of it at one moment; how often each word or code came out."""
    from django.db import connections

    from webapp.screening.services import ScreeningError

    connections.close_all()
    start, answers = threading.Barrier(len(acts)), queue.SimpleQueue[str]()

    def work(act: Callable[[], str]) -> None:
        try:
            start.wait(30)
            answers.put(act())
        except ScreeningError as error:
            answers.put(error.code)
        except BaseException as error:
            answers.put(f"!{type(error).__name__}: {error}")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(act,)) for act in acts]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    return Counter(answers.get_nowait() for _ in threads)


def round_of(stage: Any, people: list[Any]) -> Counter[str]:
    """Appeals at once, then decisions at once. Raises AssertionError if a promise was broken."""
    from tests.webapp.screening import gate
    from webapp.jobs.models import Asset
    from webapp.screening import appeals, services
    from webapp.screening.models import Review

    first, second, third = people
    asset = gate.refused(stage)

    def appeal() -> str:
        appeals.appeal(Asset.objects.get(pk=asset.pk), None, "The face is mine.")
        return "appealed"

    made = at_once([appeal] * 4)
    assert made == {"appealed": 1, "appeal_made_before": 3}, made

    def act(verb: Any, person: Any) -> Callable[[], str]:
        def run() -> str:
            review = Review.objects.select_related("screening").get(screening__asset=asset)
            return str(verb(review, person, "seen").state)

        return run

    release, reject = services.release_review, services.reject_review

    # The same person four times is one person.
    found = at_once([act(release, first)] * 4)
    assert found == {"open": 1, "second_reviewer_required": 3}, found
    review = Review.objects.get(screening__asset=asset)
    assert (review.state, review.first_reviewer_id) == ("open", first.pk)
    assert Asset.objects.get(pk=asset.pk).state == "in_review"

    # Three people release and one rejects, all at once: one decision, and the asset follows it.
    found = at_once([act(release, first), act(release, second), act(release, third), act(reject, third)])
    assert found["released"] + found["rejected"] == 1, found
    assert not [each for each in found if each.startswith("!")], found
    review = Review.objects.get(screening__asset=asset)
    ends = {"released": "ready", "rejected": "refused"}
    assert Asset.objects.get(pk=asset.pk).state == ends[review.state], review.state
    if review.state == "released":
        assert review.reviewer_id in {second.pk, third.pk}

    # Nobody has released it yet: two people at once are the two.
    other, held = gate.held(stage, "face_forgery_likely")

    def both(person: Any) -> Callable[[], str]:
        return lambda: str(release(Review.objects.select_related("screening").get(pk=held.pk), person, "seen").state)

    assert at_once([both(first), both(second)]) == {"open": 1, "released": 1}
    assert Asset.objects.get(pk=other.pk).state == "ready"
    return found


def main() -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    for database in ("default", "keys"):
        call_command("migrate", database=database, verbosity=0, interactive=False)
    from consent import ledger
    from consent.ledger import verifying
    from tests.webapp.conftest import Stage
    from webapp.accounts import services as accounts

    folder = Path(tempfile.mkdtemp(dir=settings.HOME))
    settings.STORAGE_URL = f"file://{folder / 'objects'}"
    stage = Stage(folder)
    people = [stage.mod] + [
        accounts.create_user(email=f"{name}@example.org", password="x" * 12, organisation=None, moderator=True)
        for name in ("eve", "flo")
    ]
    for _ in range(int(sys.argv[1])):
        round_of(stage, people)
    while ledger.sequence():
        pass
    found = verifying.verify().findings
    assert found == [], found
    sys.stdout.write("held\n")


if __name__ == "__main__":
    main()
