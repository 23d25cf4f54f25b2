"""The retention schedule as data: what is kept how long, from which event on, what happens then, and why.

One table for everybody: the scheduler carries it out, `manage.py privacy retention` says what would go, and the page
/retention publishes it (740 ILCS 14/15(a) wants a written schedule that the public can read). A leaf: the room that
holds the data registers how it is deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from webapp.retention_rules import RULES

__all__ = ["RULES", "Done", "Forecast", "Keeper", "forecast", "period_words", "published", "register", "run"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forecast:
    """What a rule would do now: how many, the first of their ids, and when the next one will be due."""

    due: int
    ids: tuple[str, ...] = ()
    next_at: datetime | None = None


@dataclass(frozen=True)
class Keeper:
    """How a rule is carried out: `run` deletes what is due and says how much, `forecast` only looks."""

    run: Callable[[datetime], int]
    forecast: Callable[[datetime], Forecast | None]


@dataclass(frozen=True)
class Done:
    """What one round did: per rule how many, and the rules that failed."""

    gone: dict[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.gone.values())


_keepers: dict[tuple[str, object], Keeper] = {}


def register(
    rule: str,
    run: Callable[[datetime], int],
    forecast: Callable[[datetime], Forecast | None] | None = None,
    *,
    key: object = None,
) -> None:
    """Say how a rule is carried out; from then on the scheduler does. Several rooms may carry out one rule together.

    `run(now)` deletes what is due and says how much; it is called often, in several processes at once. The same `key`
    (`run` itself if none is given) twice registers once. Raises KeyError for a rule that is not in the table, or that
    nobody carries out here.
    """
    if RULES[rule].who != "scheduler":
        raise KeyError(rule)
    _keepers[rule, key or run] = Keeper(run, forecast or _unknown)


def run(now: datetime) -> Done:
    """Carry out every rule that somebody registered for; one that fails does not stop the others. Any number of times.

    What failed is logged by kind and tried again at the next round: nothing is lost by a round left out.
    """
    gone: dict[str, int] = {}
    failed = []
    for name, keeper in _ordered():
        try:
            gone[name] = gone.get(name, 0) + keeper.run(now)
        except Exception as error:
            logger.exception("The retention rule %s failed (%s); it is tried again.", name, type(error).__name__)
            failed.append(name)
    return Done(gone, tuple(failed))


def forecast(now: datetime) -> Iterator[tuple[str, Forecast | None]]:
    """What each rule would delete now, in the table's order, None where no room can tell; nothing is touched."""
    for name, keepers in groupby(_ordered(), key=lambda pair: pair[0]):
        told = [found for _, keeper in keepers if (found := keeper.forecast(now)) is not None]
        if not told:
            yield name, None
            continue
        yield (
            name,
            Forecast(
                due=sum(found.due for found in told),
                ids=tuple(one for found in told for one in found.ids),
                next_at=min((found.next_at for found in told if found.next_at), default=None),
            ),
        )


def published(locale: str) -> list[dict[str, str]]:
    """The rows that the public page shows: what is carried out here, what the operator does, and what stays."""
    carried = {rule for rule, _ in _keepers}
    return [
        {
            "name": name,
            "data": rule.data.in_(locale),
            "period": period_words(rule.period(), locale),
            "since": rule.since.in_(locale),
            "action": rule.action.in_(locale),
            "reason": rule.reason.in_(locale),
        }
        for name, rule in RULES.items()
        if rule.public and (rule.who != "scheduler" or name in carried)
    ]


def period_words(period: timedelta | None, locale: str = "en") -> str:
    """A span of time as people say it: "24 hours", "7 days", "3 years"; "" for none."""
    if period is None:
        return ""
    chinese = locale.lower().startswith("zh")
    for size, en, zh in ((timedelta(days=365), "year", "年"), (timedelta(days=2), "day", "天")):
        unit = timedelta(days=1) if en == "day" else size
        if period >= size and not period % unit:
            count = period // unit
            return f"{count} {zh}" if chinese else f"{count} {en}{'' if count == 1 else 's'}"
    count = int(period.total_seconds() // 3600)
    if not count:
        return "立即" if chinese else "at once"
    return f"{count} 小时" if chinese else f"{count} hour{'' if count == 1 else 's'}"


def _ordered() -> Iterator[tuple[str, Keeper]]:
    for name in RULES:
        for (rule, _), keeper in list(_keepers.items()):
            if rule == name:
                yield name, keeper


def _unknown(now: datetime) -> Forecast | None:
    """A room that only deletes and does not look ahead."""
    return None
