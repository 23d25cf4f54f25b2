"""Runs as a child: a withdrawal races with submitting, reserving and publishing, and what came of it is checked.

`python racing.py threads|processes FIRST_SEED ROUNDS`, with DATABASE_URL and KEYS_URL set; says "held" at the end.
Each round has fresh people and five jobs on two permissions of at most three results: two about to be published, two
ready to be run, one whose publication two workers attempt. Three of the jobs replace a second face, on the permissions
of two more people. Everybody starts at one barrier; small pauses drawn from the seed move the withdrawals to and fro
among the others.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST = 3
PEOPLE_PAUSE = 0.08  # seconds up to which somebody waits after the barrier

_stage: Any = None


def stage() -> Any:
    """The cast of the web side's tests, with a target of two faces that passed its screening."""
    from django.conf import settings

    from tests.webapp.conftest import TWO_FACES, Stage

    global _stage  # noqa: PLW0603 - one per process
    if _stage is None:
        folder = Path(tempfile.mkdtemp(dir=os.environ["RACE_FOLDER"]))
        settings.STORAGE_URL = f"file://{folder / 'objects'}"
        _stage = Stage(folder)
        _stage.target = _stage.ready("target", faces=TWO_FACES)
    return _stage


def round_of(seed: int, threads: bool) -> Counter[str]:
    """One race; returns how often each thing came out. Raises AssertionError if a promise was broken."""
    from django.db import connections

    from consent import services as consents
    from consent.models import Consent, Use
    from webapp.jobs import running
    from webapp.jobs import services as jobs
    from webapp.jobs.models import Job, JobEvent, Output

    dice = random.Random(seed)
    house = stage()
    pairs = [house.pair(house.target, face, most=MOST) for face in (0, 1)]
    people = [consent for pair in pairs for consent in pair.consents]
    donor = people[0]

    def submit(faces: int) -> Any:
        return house.submit(target=house.target, swaps=pairs[:faces])

    made = [house.screened(submit(faces)) for faces in (1, 2, 2, 1, 2)]
    for job in made[:3]:
        house.run(job)
        assert running.begin_finishing(job.pk, "worker")

    def publish(job: Any) -> str:
        draft = house.draft(job, object_name=f"output/{job.pk}", manifest_label=f"urn:c2pa:{job.pk}")
        running.publish_output(job.pk, "worker", draft)
        return "published"

    def run(job: Any, owner: str) -> str:
        if running.claim_job(job.pk, owner) is None or not running.authorise(job.pk, owner):
            return "not_run"
        if not running.begin_finishing(job.pk, owner):
            return "stopped"
        draft = house.draft(job, object_name=f"output/{job.pk}", manifest_label=f"urn:c2pa:{job.pk}")
        running.publish_output(job.pk, owner, draft)
        return "published"

    def withdraw(consent: Any) -> str:
        consents.withdraw_consent(Consent.objects.get(pk=consent.pk))
        return "withdrawn"

    def submit_late(faces: int) -> str:
        submit(faces)
        return "submitted"

    acts: list[Callable[[], str]] = [
        *(lambda job=job: publish(job) for job in made[:3]),
        lambda: publish(made[2]),  # the same job by a second hand
        *(lambda job=job, n=n: run(job, f"w{n}") for n, job in enumerate(made[3:])),
        lambda: run(made[3], "w9"),
        lambda: submit_late(1),
        lambda: submit_late(2),
        lambda: withdraw(donor),
    ]
    if dice.random() < 0.5:
        another = dice.choice(people[1:])
        acts.append(lambda: withdraw(another))
    if dice.random() < 0.3:
        acts.append(lambda: withdraw(donor))
    pauses = [dice.random() * PEOPLE_PAUSE if dice.random() < 0.8 else 0.0 for _ in acts]
    outcomes = _at_once(acts, pauses, threads, (consents.ConsentError, jobs.JobsError))
    unexpected = [each for each in outcomes if each.startswith("!")]
    assert not unexpected, (seed, unexpected)

    connections.close_all()
    asked = Consent.objects.in_bulk([consent.pk for consent in people])
    assert asked[donor.pk].state == "withdrawn"
    ids = list(Job.objects.on_consents([donor]).values_list("pk", flat=True))
    outputs = list(Output.objects.filter(job__in=ids))
    assert all(output.permission == "withdrawn" for output in outputs), seed
    assert set(Job.objects.filter(pk__in=ids).values_list("state", flat=True)) <= {"succeeded", "refused"}, seed
    assert len(outputs) == Job.objects.filter(pk__in=ids, state="succeeded").count() <= MOST, seed
    published = JobEvent.objects.filter(job__in=ids, code="published")
    assert published.count() == len(outputs) == outcomes.count("published"), (seed, outcomes)
    for consent in asked.values():
        own = set(Job.objects.on_consents([consent]).values_list("pk", flat=True))
        events = [(event.type, event.data.get("job")) for event in consent.events.all()]
        used = [job for type, job in events if type == "used"]
        assert len(used) == len(set(used)), (seed, events)
        assert set(used) == {output.job_id for output in outputs} & own, (seed, events)
        assert consent.uses.filter(state=Use.State.COUNTED).count() == len(used)
        assert not consent.uses.filter(state=Use.State.RESERVED).exists(), seed
        if "withdrawn" in dict(events):  # nothing is reserved or used after it, only given back
            after = events[[type for type, _ in events].index("withdrawn") + 1 :]
            assert {type for type, _ in after} <= {"released"}, (seed, events)
    return Counter(outcomes)


def _at_once(
    acts: list[Callable[[], str]], pauses: list[float], threads: bool, refusals: tuple[type[Exception], ...]
) -> list[str]:
    """Do all of it at one moment; the outcome of each: its word, the code of its refusal, or "!" and an error."""
    from django.db import connections

    connections.close_all()
    kind: Any = threading if threads else multiprocessing.get_context("fork")
    start = kind.Barrier(len(acts))
    answers: Any = queue.SimpleQueue() if threads else kind.SimpleQueue()

    def work(act: Callable[[], str], pause: float) -> None:
        try:
            start.wait(30)
            time.sleep(pause)
            answers.put(act())
        except refusals as error:
            answers.put(str(error.code))  # type: ignore[attr-defined]
        except BaseException as error:
            answers.put(f"!{type(error).__name__}: {error}")
        finally:
            connections.close_all()

    make: Any = threading.Thread if threads else kind.Process
    workers = [make(target=work, args=pair) for pair in zip(acts, pauses, strict=True)]
    for worker in workers:
        worker.start()
    found = [answers.get() for _ in workers]
    for worker in workers:
        worker.join(30)
    return found


def main() -> None:
    import django

    django.setup()
    from django.core.management import call_command

    for database in ("default", "keys"):
        call_command("migrate", database=database, verbosity=0, interactive=False)
    kind, first, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    total: Counter[str] = Counter()
    for seed in range(first, first + rounds):
        total += round_of(seed, kind == "threads")
    # Else the withdrawals came always first, or always last, and nothing raced.
    assert total["published"], total
    assert total["withdrawn"] >= rounds, total
    assert rounds < 5 or total["consent_withdrawn"] + total["lease_lost"], total
    sys.stdout.write("held\n")


if __name__ == "__main__":
    main()
