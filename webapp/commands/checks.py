"""What `doctor` looks at. Each check is small, looks at the real thing, and says how to mend what it finds."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
from django.conf import settings
from django.db import DatabaseError, connections

Level = Literal["ok", "note", "missing"]
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
LEAST_FREE_BYTES = 5 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the report. `missing` means that jobs will not run; `note` is worth knowing."""

    what: str
    level: Level
    words: str
    mend: str = ""


def check_profile() -> Iterator[Finding]:
    profile = settings.PROFILE
    if not profile:
        yield Finding("profile", "missing", "IMPRIMATUR_PROFILE is not set", "choose evaluation, standard or strict")
    elif profile == "evaluation":
        yield Finding("profile", "note", "evaluation: L1 consent suffices, outputs are labelled, livemode is false")
    else:
        yield Finding("profile", "ok", profile)


def check_public_url() -> Iterator[Finding]:
    parts = urlsplit(settings.PUBLIC_URL)
    host = parts.hostname or ""
    mend = "set PUBLIC_URL to the address that people outside use, for example https://swap.example.org"
    if parts.scheme not in {"http", "https"} or not host or parts.path.strip("/"):
        yield Finding("PUBLIC_URL", "missing", f"{settings.PUBLIC_URL!r} is not scheme://host[:port]", mend)
    elif host not in settings.ALLOWED_HOSTS:
        yield Finding("PUBLIC_URL", "missing", f"its host {host} is not in ALLOWED_HOSTS", "add it to ALLOWED_HOSTS")
    elif host in LOCAL_HOSTS:
        level: Level = "note" if settings.PROFILE == "evaluation" else "missing"
        yield Finding("PUBLIC_URL", level, f"{settings.PUBLIC_URL}: consent links open on this machine only", mend)
    elif parts.scheme != "https":
        yield Finding("PUBLIC_URL", "missing", "consent links would travel unencrypted", mend)
    else:
        yield Finding("PUBLIC_URL", "ok", settings.PUBLIC_URL)


def check_home() -> Iterator[Finding]:
    home = settings.HOME
    free = shutil.disk_usage(home if home.exists() else home.parent).free
    level: Level = "ok" if free > LEAST_FREE_BYTES else "missing"
    yield Finding("disk", level, f"{free / 2**30:.0f} GiB free under {home}", "free some space or move IMPRIMATUR_HOME")
    master = settings.KEYS_DIR / "master.key"
    if master.exists() and stat.S_IMODE(master.stat().st_mode) & 0o077:
        yield Finding("master key", "missing", "others can read the master key", f"chmod 600 {master}")


def check_databases() -> Iterator[Finding]:
    from django.db.migrations.executor import MigrationExecutor

    for alias in ("default", "keys"):
        name = "database" if alias == "default" else "key store"
        try:
            connection = connections[alias]
            executor = MigrationExecutor(connection)
            waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except Exception as error:
            yield Finding(name, "missing", f"cannot be reached: {error}", "check DATABASE_URL and KEYS_URL")
            continue
        if waiting:
            yield Finding(name, "missing", f"{len(waiting)} migrations wait", "python manage.py prepare")
        else:
            yield Finding(name, "ok", connection.vendor)


def check_keys_and_signer() -> Iterator[Finding]:
    from consent import keys, rotation
    from webapp.commands import signing_checks

    try:
        keys.subkey("check")
        where = rotation.status()
        words = f"{where.master} in {where.uri}"
        if where.lost:
            mend = "bring the earlier master key back, or name its place in MASTER_KEY_PREVIOUS"
            yield Finding("master key", "missing", f"{words}; {where.lost} keys lie under one not at hand", mend)
        elif where.waiting:
            mend = "python manage.py keys rewrap"
            yield Finding("master key", "note", f"{words}; {where.waiting} keys lie under an earlier one", mend)
        else:
            yield Finding("master key", "ok", words)
    except Exception as error:
        yield Finding("master key", "missing", str(error), "python manage.py prepare; see MASTER_KEY_URI")
    mend = "see `python manage.py certs check`; new certificates: certs rotate; for an evaluation: certs init-dev"
    found = signing_checks.findings()
    for finding in found:
        yield Finding("signer", "missing" if finding.fatal else "note", finding.message, mend if finding.fatal else "")
    if not found:
        yield Finding("signer", "ok", "certificate chain, key and time stamps are good")


def check_ledger() -> Iterator[Finding]:
    from datetime import timedelta

    from django.db import DatabaseError
    from django.utils import timezone

    from consent.ledger import house
    from consent.ledger.errors import LedgerError
    from consent.ledger.models import LedgerEntry
    from consent.ledger.sequencer import tree_size

    try:
        verifier = house.signer().verifier
        old = LedgerEntry.objects.filter(seq__isnull=True, at__lt=timezone.now() - timedelta(minutes=1)).count()
        size = tree_size()
    except (LedgerError, DatabaseError) as error:
        yield Finding("ledger", "missing", str(error), "see `python manage.py ledger verify`")
        return
    if old:
        words = f"{old} entries have waited more than a minute for their place"
        yield Finding("ledger", "note", words, "is a worker with the scheduler running? or: manage.py ledger sequence")
    yield Finding("ledger", "ok", f"{size} leaves, signed by {verifier.text}")


def check_marks() -> Iterator[Finding]:
    from consent.keys import KeyStoreError
    from webapp import keys_of_house
    from webapp.jobs.models import Output

    try:
        known = {key.name for key in keys_of_house.mark_keys()}
        used = set(Output.objects.values_list("mark_key", flat=True).distinct())
    except (KeyStoreError, DatabaseError):
        return  # both have findings of their own
    if lost := sorted(used - known):
        yield Finding(
            "marks",
            "missing",
            f"outputs marked with the keys {', '.join(lost)} can no longer be recognised",
            "put the deployment's earlier name into IMPRIMATUR_PREVIOUS_DEPLOYMENTS",
        )
    else:
        yield Finding("marks", "ok", f"{len(known)} mark keys are tried on every reading")


def check_models() -> Iterator[Finding]:
    from worker import model_choice
    from worker.inference import builtin

    bad = [f"{status.name}: {status.problem}" for status in builtin.check(settings.MODELS_DIR) if status.problem]
    if bad:
        yield Finding("models", "missing", "; ".join(bad), "python manage.py models build")
    else:
        yield Finding("models", "ok", f"built-in set complete in {settings.MODELS_DIR}")
    names = model_choice.installed(settings.OPERATOR_MODELS_DIR)
    if not names:
        return
    swappers, enhancers = model_choice.ready(model_choice.installed(settings.OPERATOR_MODELS_DIR))
    choosable = [*swappers, *enhancers, *(name for name in model_choice.UPSCALERS if name in names)]
    if choosable:
        yield Finding("models", "ok", f"of your own: jobs may choose {', '.join(choosable)}")
    else:
        yield Finding(
            "models",
            "missing",
            f"no job can choose one of your own models, which are {', '.join(sorted(names))}",
            "a swapper needs a detector, landmarks and its embedding too; see manage.py models list",
        )


def check_engine() -> Iterator[Finding]:
    from worker.inference.client import connect, ensure_engine
    from worker.inference.types import ModelError

    try:
        client = connect(ensure_engine(settings.HOME, idle_exit=5.0))  # one that we start ends by itself
        try:
            begin = time.perf_counter()
            client.run("face_descriptor", {"image": np.zeros((1, 3, 150, 150), np.float32)})
            seconds = time.perf_counter() - begin
            status = client.status()
        finally:
            client.close()
    except (ModelError, OSError) as error:
        yield Finding("engine", "missing", str(error), "see the engine's log under IMPRIMATUR_HOME/logs")
        return
    providers = ", ".join(map(str, status["providers"]))
    yield Finding("engine", "ok", f"ran a model on {providers} in {seconds:.2f} s, loading included")


def check_media() -> Iterator[Finding]:
    from worker.media.sandbox import call, isolation

    try:
        found = call("worker.media.codecs:present", {}, timeout=30.0)
        lost = [name for name, there in found.items() if not there]
        if lost:
            yield Finding("codecs", "missing", f"not there: {', '.join(lost)}", "use the wheels of requirements.lock")
        else:
            yield Finding("codecs", "ok", ", ".join(found))
    except Exception as error:
        yield Finding("media child", "missing", str(error), "the limited media process must be able to start")
    fences = isolation()
    lost = [
        words
        for words, given in (
            ("an empty network", fences["network"] == "none"),
            ("file access by list (Landlock)", fences["files"] > 0),
        )
        if not given
    ]
    if lost:
        yield Finding(
            "isolation",
            "note" if settings.PROFILE == "evaluation" else "missing",
            f"this kernel does not give the media child {' and '.join(lost)}",
            "allow unprivileged user namespaces and Landlock, or run the worker in a container without network",
        )
    else:
        yield Finding("isolation", "ok", f"no network, files by list, starts in {fences['start_seconds']} s")


def check_broker() -> Iterator[Finding]:
    from webapp.celery import app

    name = "redis" if settings.REDIS_URL else f"spool in {settings.SPOOL_DIR}"
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=3)
    except Exception as error:
        yield Finding("broker", "missing", f"{name}: {error}", "start Redis, or unset REDIS_URL for one machine")
        return
    yield Finding("broker", "ok", name)


def check_mail() -> Iterator[Finding]:
    if settings.EMAIL_HOST:
        yield Finding("mail", "ok", f"through {settings.EMAIL_HOST}:{settings.EMAIL_PORT}")
    else:
        level: Level = "note" if settings.PROFILE == "evaluation" else "missing"
        words = f"consent links are written to {settings.MAIL_DIR} instead of being mailed"
        yield Finding("mail", level, words, "set EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER and EMAIL_HOST_PASSWORD")


def check_labels() -> Iterator[Finding]:
    from watermark.jurisdictions import RULES, notice

    found = notice(settings.JURISDICTIONS, house_language=settings.LABEL_LANGUAGE)
    words = f"{' / '.join(found.lines)}, {found.place}, by the rules of {', '.join(settings.JURISDICTIONS)}"
    yield Finding("label", "ok", words)
    if any(RULES[name].aigc for name in settings.JURISDICTIONS) and not settings.AIGC_PRODUCER:
        yield Finding(
            "label",
            "note" if settings.PROFILE == "evaluation" else "missing",
            "China's metadata label names the producer, and no name is set",
            "set AIGC_PRODUCER to the name or code under which you are registered",
        )


def check_browser_reader() -> Iterator[Finding]:
    from webapp.verify import browser_reader

    if browser_reader.present():
        yield Finding("browser reader", "ok", f"{browser_reader.PACKAGE} {browser_reader.VERSION}")
        return
    words = "the verify page does not read Content Credentials in the browser; the server reads them all the same"
    yield Finding("browser reader", "note", words, "install npm and run `manage.py prepare`, or set IMPRIMATUR_VENDOR")


def check_screening() -> Iterator[Finding]:
    from webapp.commands import gate_packs
    from worker.gate import screeners
    from worker.gate.packs.pack_store import PackStore
    from worker.gate.packs.standing import PackError

    found, missing = screeners.built(settings.MODELS_DIR, settings.OPERATOR_MODELS_DIR, settings.PROFILE)
    for kind, cards in found.items():
        yield Finding("screening", "ok", f"{kind} by {' and '.join(card.name for card in cards)}")
    mends = {
        "not_built": "python manage.py models build (age needs npm; or models install fairface)",
        "licence_not_accepted": "python manage.py models licence accept faceres, or models install fairface",
    }
    for kind, code in missing.items():
        words = f"{kind} is not screened ({code}): recorded as such, never as passed"
        yield Finding("screening", "note", words, mends[code])
    try:
        standings = PackStore(settings.GATE_PACKS_DIR).standings(compare=True)
    except PackError as error:
        yield Finding("screening", "missing", error.message)
        return
    for one in standings:
        level: Level = "missing" if one.wanted and one.role == "refused" else "note" if one.code else "ok"
        if one.service is not None:
            keyless = "[service_key]" in (words := gate_packs.leaving(one))
            level = "missing" if keyless and one.role == "enforcing" else level
            yield Finding("screening", level, f"{one.kind} by the service {one.id}: {one.role}; {words}", one.detail)
            continue
        yield Finding("screening", level, f"{one.kind} by the pack {one.id}: {one.role}", one.detail or one.code)
    for kind in sorted(set(screeners.DETECTED) - {one.kind for one in standings if one.role == "enforcing"}):
        words = f"{kind} is not screened: no pack decides; recorded as such, never as passed"
        yield Finding("screening", "note", words, "see python manage.py gate packs")


def check_reviews() -> Iterator[Finding]:
    from webapp.screening import numbers, services

    try:
        waiting, overdue = services.waiting().count(), numbers.overdue()
    except DatabaseError:
        return  # check_databases has said so
    if overdue:
        words = f"{overdue} of {waiting} open reviews should have been decided by now"
        yield Finding("reviews", "note", words, "a moderator decides them at /console/reviews")
    else:
        yield Finding("reviews", "ok", f"{waiting} open, none overdue")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_profile,
    check_public_url,
    check_home,
    check_databases,
    check_keys_and_signer,
    check_ledger,
    check_marks,
    check_models,
    check_engine,
    check_media,
    check_broker,
    check_mail,
    check_labels,
    check_browser_reader,
    check_screening,
    check_reviews,
)
