"""What waits for the batcher: requests by service class, client and model, and whose turn it is.

Plain data without threads or a clock; the batcher holds its lock round every call.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from worker.inference.batching import LIMITS
from worker.inference.types import ModelError, Service


@dataclass(eq=False)
class Work:
    """One request: views [count, *shape] by tensor name, which somebody else may change at any time.

    `done` is called once, from any thread, with None or what went wrong; the outputs are in place by then.
    """

    client: object
    service: Service
    model: str
    count: int
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    done: Callable[[ModelError | None], None]
    came: float = 0.0
    taken: int = 0  # items that are in a batch, done or dropped
    left: int = 0  # items that are queued or in a batch
    error: ModelError | None = None

    @property
    def waiting(self) -> int:
        """Items that are queued."""
        return self.count - self.taken

    def drop_waiting(self) -> None:
        """Give up what is queued; what is in a batch goes on."""
        self.left -= self.waiting
        self.taken = self.count


@dataclass(frozen=True)
class Piece:
    """Neighbouring items of one request, in one batch."""

    work: Work
    start: int
    count: int


class WorkQueues:
    """Clients take turns, and so do the models of one client; one with a deep queue gets no more than its share."""

    def __init__(self) -> None:
        # By client in the order of turns, then by model in the order of turns.
        self._clients: dict[Service, OrderedDict[object, OrderedDict[str, deque[Work]]]] = {
            service: OrderedDict() for service in LIMITS
        }
        self._counts: dict[tuple[Service, str], int] = {}

    def add(self, work: Work) -> None:
        """Queue a request at the end of its client's own."""
        models = self._clients[work.service].setdefault(work.client, OrderedDict())
        models.setdefault(work.model, deque()).append(work)
        self._count(work, work.waiting)

    def count(self, service: Service, model: str) -> int:
        """Items of a model that are queued."""
        return self._counts.get((service, model), 0)

    def oldest(self, service: Service, model: str) -> float:
        """When the first of these requests came."""
        return min(models[model][0].came for models in self._clients[service].values() if model in models)

    @property
    def empty(self) -> bool:
        """Whether nothing is queued."""
        return not self._counts

    def turns(self, service: Service) -> Iterator[tuple[object, str]]:
        """Every model that is queued, once, in the order of turns, with the client whose turn it is for."""
        seen = set()
        for client, models in self._clients[service].items():
            for model in models:
                if model not in seen:
                    seen.add(model)
                    yield client, model

    def take(self, service: Service, model: str, leader: object, size: int) -> list[Piece]:
        """Take `size` queued items of a model, one of each client in turn; whoever got some goes to the end."""
        queue = self._clients[service]
        clients = [leader, *(client for client, models in queue.items() if client is not leader and model in models)]
        shares = fair_shares(size, [sum(work.waiting for work in queue[client][model]) for client in clients])
        pieces: list[Piece] = []
        for client, share in zip(clients, shares, strict=True):
            if share:
                queue.move_to_end(client)
                pieces.extend(self._take_from(queue[client][model], share))
                queue[client].move_to_end(model)
                self._tidy(service, client, model)
        if next(iter(queue), None) is leader:
            queue.move_to_end(leader)  # everybody got something: next time another one begins
        return pieces

    def drop_client(self, client: object) -> list[Work]:
        """Drop all that a client has queued; gives the requests."""
        return [
            work
            for service, queue in self._clients.items()
            for model in list(queue.get(client, ()))
            for work in self._drop(service, client, model)
        ]

    def drop_model(self, model: str) -> list[Work]:
        """Drop all that is queued for a model; gives the requests."""
        return [
            work
            for service, queue in self._clients.items()
            for client in [client for client, models in queue.items() if model in models]
            for work in self._drop(service, client, model)
        ]

    def drop_work(self, work: Work) -> None:
        """Drop what one request still has queued."""
        if work.waiting:
            self._count(work, -work.waiting)
            self._clients[work.service][work.client][work.model].remove(work)
            work.drop_waiting()
            self._tidy(work.service, work.client, work.model)

    def depths(self) -> dict[str, dict[str, int]]:
        """Items by class and model, for the engine's status."""
        return {
            service: {model: count for (of, model), count in self._counts.items() if of == service}
            for service in self._clients
        }

    def _take_from(self, works: deque[Work], share: int) -> Iterator[Piece]:
        while share:
            work = works[0]
            count = min(share, work.waiting)
            yield Piece(work, work.taken, count)
            self._count(work, -count)
            work.taken += count
            share -= count
            if not work.waiting:
                works.popleft()

    def _drop(self, service: Service, client: object, model: str) -> list[Work]:
        works = list(self._clients[service][client][model])
        for work in works:
            self._count(work, -work.waiting)
            work.drop_waiting()
        self._clients[service][client][model].clear()
        self._tidy(service, client, model)
        return works

    def _tidy(self, service: Service, client: object, model: str) -> None:
        models = self._clients[service][client]
        if not models[model]:
            del models[model]
            if not models:
                del self._clients[service][client]

    def _count(self, work: Work, change: int) -> None:
        key = work.service, work.model
        self._counts[key] = self._counts.get(key, 0) + change
        if not self._counts[key]:
            del self._counts[key]


def fair_shares(size: int, waiting: list[int]) -> list[int]:
    """Divide `size` items among clients, one each in turn, nobody more than is waiting (in all at least `size`)."""
    shares = [0] * len(waiting)
    while size:
        hungry = [index for index, count in enumerate(waiting) if count > shares[index]]
        each = max(1, min(size // len(hungry), *(waiting[index] - shares[index] for index in hungry)))
        for index in hungry[:size]:
            shares[index] += each
            size -= each
    return shares


def halves(pieces: list[Piece]) -> list[list[Piece]]:
    """Pieces of at least two items in two lists of about as many; a piece is cut where it must be."""
    first = sum(piece.count for piece in pieces) // 2
    left: list[Piece] = []
    right: list[Piece] = []
    for piece in pieces:
        count = min(piece.count, first)
        first -= count
        if count:
            left.append(Piece(piece.work, piece.start, count))
        if count < piece.count:
            right.append(Piece(piece.work, piece.start + count, piece.count - count))
    return [left, right]
