"""Who is served when: clients take turns, a deep queue gets no more than its share, and nothing is lost."""

import random
from collections import Counter

import pytest

from worker.inference.work_queues import Piece, Work, WorkQueues, fair_shares, halves


def work(client: object, model: str = "face_mesh", count: int = 1, service="offline", came: float = 0.0) -> Work:
    return Work(client, service, model, count, {}, {}, lambda error: None, came=came, left=count)


def served(queues: WorkQueues, size: int, service="offline") -> Counter:
    """Close one batch of the client whose turn it is; items by client."""
    leader, model = next(queues.turns(service))
    pieces = queues.take(service, model, leader, min(size, queues.count(service, model)))
    return Counter(
        {client: sum(p.count for p in pieces if p.work.client == client) for client in {p.work.client for p in pieces}}
    )


def test_a_client_with_a_deep_queue_does_not_starve_one_with_a_shallow_one():
    queues = WorkQueues()
    for _ in range(100):
        queues.add(work("ada"))
    for _ in range(3):
        queues.add(work("ben"))
    assert served(queues, 8) == {"ada": 5, "ben": 3}


def test_a_large_request_is_cut_so_that_a_small_one_gets_its_place():
    queues = WorkQueues()
    queues.add(work("ada", count=32))
    queues.add(work("ben"))
    assert served(queues, 4) == {"ada": 3, "ben": 1}
    assert queues.count("offline", "face_mesh") == 29


def test_clients_of_different_models_take_turns():
    queues = WorkQueues()
    for _ in range(8):
        queues.add(work("ada", "face_mesh", 4))
        queues.add(work("ben", "face_descriptor", 4))
    turns = []
    while not queues.empty:
        turns.extend(served(queues, 8))
    assert turns == ["ada", "ben"] * 4


def test_the_models_of_one_client_take_turns():
    queues = WorkQueues()
    for model in ("face_mesh", "face_mesh", "face_descriptor", "face_mesh"):
        queues.add(work("ada", model))
    order = []
    while not queues.empty:
        order.append(next(queues.turns("offline"))[1])
        served(queues, 1)
    assert order[:2] == ["face_mesh", "face_descriptor"]


def test_more_clients_than_places_are_all_served_after_so_many_batches():
    queues = WorkQueues()
    for client in range(10):
        for _ in range(5):
            queues.add(work(client))
    got = Counter()
    for _ in range(5):
        got += served(queues, 4)
    assert got == Counter(dict.fromkeys(range(10), 2))


@pytest.mark.parametrize("seed", range(50))
def test_every_item_is_taken_or_dropped_exactly_once_whatever_happens(seed):
    generator = random.Random(seed)
    queues = WorkQueues()
    works: list[Work] = []
    seen: Counter = Counter()
    for _ in range(200):
        match generator.choice(["add", "add", "take", "drop client", "drop model", "drop work"]):
            case "add":
                one = work(
                    generator.randint(0, 4),
                    generator.choice("abc"),
                    generator.randint(1, 9),
                    generator.choice(["interactive", "offline"]),
                )
                works.append(one)
                queues.add(one)
            case "take":
                service = generator.choice(["interactive", "offline"])
                if (turn := next(queues.turns(service), None)) is not None:
                    waiting = queues.count(service, turn[1])
                    size = generator.randint(1, waiting)
                    pieces = queues.take(service, turn[1], turn[0], size)
                    assert sum(piece.count for piece in pieces) == size
                    for piece in pieces:
                        assert (piece.work.service, piece.work.model) == (service, turn[1])
                        seen.update((id(piece.work), piece.start + i) for i in range(piece.count))
                        piece.work.left -= piece.count
            case "drop client":
                queues.drop_client(generator.randint(0, 4))
            case "drop model":
                queues.drop_model(generator.choice("abc"))
            case "drop work" if works:
                queues.drop_work(generator.choice(works))
    assert not seen or max(seen.values()) == 1
    for service in ("interactive", "offline"):
        for model in "abc":
            waiting = sum(w.waiting for w in works if (w.service, w.model) == (service, model))
            assert queues.count(service, model) == waiting
    for client in range(5):
        queues.drop_client(client)
    assert queues.empty
    assert queues.depths() == {"interactive": {}, "offline": {}}
    assert all(w.left == 0 and w.waiting == 0 for w in works)


def test_the_age_of_a_queue_is_that_of_its_first_request():
    queues = WorkQueues()
    queues.add(work("ada", came=5.0))
    queues.add(work("ben", came=3.0))
    assert queues.oldest("offline", "face_mesh") == 3.0


@pytest.mark.parametrize("seed", range(30))
def test_shares_add_up_and_nobody_gets_two_more_than_another_that_is_still_hungry(seed):
    generator = random.Random(seed)
    waiting = [generator.randint(1, 20) for _ in range(generator.randint(1, 8))]
    size = generator.randint(1, sum(waiting))
    shares = fair_shares(size, waiting)
    assert sum(shares) == size
    hungry = [share for share, count in zip(shares, waiting, strict=True) if share < count]
    assert all(share <= count for share, count in zip(shares, waiting, strict=True))
    assert not hungry or max(shares) <= min(hungry) + 1


@pytest.mark.parametrize("counts", [[2], [1, 1], [3, 1, 4], [32], [1] * 7])
def test_halves_hold_every_item_once_in_order(counts):
    pieces = [Piece(work(index, count=count + 2), 2, count) for index, count in enumerate(counts)]
    items = [(p.work.client, p.start + i) for half in halves(pieces) for p in half for i in range(p.count)]
    assert items == [(p.work.client, p.start + i) for p in pieces for i in range(p.count)]
    sizes = [sum(p.count for p in half) for half in halves(pieces)]
    assert max(sizes) - min(sizes) <= 1
