"""The folder broker: whole messages, one reader each, and nothing strange in the folder stops it."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from worker import spool

QUEUE = Queue("work", Exchange("work", type="direct"), routing_key="work")


def connect(folder: Path) -> Connection:
    return Connection(transport=spool.Transport, transport_options={"folder": str(folder), "polling_interval": 0.01})


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with connect(tmp_path / "spool") as opened:
        yield opened


def drain(connection: Connection) -> list[Any]:
    found = []
    simple = connection.SimpleQueue(QUEUE)
    while True:
        try:
            message = simple.get(block=False)
        except Empty:
            break
        message.ack()
        found.append(message.payload)
    simple.close()
    return found


def put(connection: Connection, *payloads: Any) -> None:
    simple = connection.SimpleQueue(QUEUE)
    for payload in payloads:
        simple.put(payload, serializer="json")
    simple.close()


def test_messages_come_out_whole_and_in_order(connection: Connection) -> None:
    put(connection, *({"number": number, "text": "é" * 1000} for number in range(20)))
    assert [each["number"] for each in drain(connection)] == list(range(20))
    assert drain(connection) == []


def test_a_read_message_is_gone_from_the_disk_and_one_given_back_is_there_again(
    connection: Connection, tmp_path: Path
) -> None:
    put(connection, "once")
    simple = connection.SimpleQueue(QUEUE)
    message = simple.get(block=False)
    assert list((tmp_path / "spool" / "work").iterdir()) == []
    message.requeue()
    assert len(list((tmp_path / "spool" / "work").iterdir())) == 1
    simple.close()
    assert drain(connection) == ["once"]


def test_unacknowledged_messages_return_when_their_reader_leaves_in_order(tmp_path: Path) -> None:
    with connect(tmp_path) as first:
        put(first, "kept")
        simple = first.SimpleQueue(QUEUE)
        assert simple.get(block=False).payload == "kept"
    with connect(tmp_path) as second:
        assert drain(second) == ["kept"]


def test_empty_torn_and_foreign_files_do_not_stop_the_queue(connection: Connection, tmp_path: Path) -> None:
    put(connection, "before")
    folder = tmp_path / "spool" / "work"
    (folder / "00000000000000000001-empty.msg").touch()
    (folder / "00000000000000000002-torn.msg").write_bytes(b'{"body": "abc')
    (folder / "00000000000000000003-other.msg").write_text(json.dumps(["not", "a", "message"]))
    (folder / "00000000000000000004-half.msg").write_text(json.dumps({"body": "x"}))
    (folder / "00000000000000000005-binary.msg").write_bytes(os.urandom(64))
    (folder / "00000000000000000006-folder.msg").mkdir()
    (folder / "readme.txt").write_text("not ours")
    put(connection, "after")
    assert drain(connection) == ["before", "after"]
    assert (folder / "readme.txt").exists()


def test_a_name_cannot_lead_out_of_the_spool(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "spool"
    with connect(root) as connection:
        channel = connection.default_channel
        for name in ("../../outside", "/etc/x", "..", "a.b"):
            channel._put(name, {"properties": {}})
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"spool"}
    assert len(list(root.iterdir())) == 4


def test_a_full_disk_leaves_no_half_message(connection: Connection, tmp_path: Path, monkeypatch: Any) -> None:
    put(connection, "good")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        connection.default_channel._put("work", {"body": "x", "headers": {}, "properties": {}})
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "spool" / "work").iterdir() if path.name.startswith(".")] == []
    assert drain(connection) == ["good"]


def test_leftovers_of_killed_processes_are_removed_once_they_are_old(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    old, new, message = folder / ".tmp-old.msg", folder / ".taken-1-new.msg", folder / "1-a.msg"
    for path in (old, new, message):
        path.write_text("{}")
    before = time.time() - spool.STALE_SECONDS - 10
    os.utime(old, (before, before))
    os.utime(message, (before, before))
    assert spool.remove_leftovers(tmp_path) == 1
    assert {path.name for path in folder.iterdir()} == {new.name, message.name}


def _produce(folder: Path, producer: int, count: int, size: int) -> None:
    with connect(folder) as connection:
        put(connection, *({"id": f"{producer}-{number}", "pad": "x" * size} for number in range(count)))


def _consume(folder: Path, stop: Any, results: Any) -> None:
    with connect(folder) as connection:
        while not stop.is_set() or connection.SimpleQueue(QUEUE).qsize():
            for payload in drain(connection):
                results.put((payload["id"], len(payload["pad"])))
            time.sleep(0.002)
    results.put(None)


@pytest.mark.parametrize(("count", "size"), [(100, 200), (15, 2_000_000)])
def test_three_writers_and_three_readers_lose_tear_and_double_nothing(tmp_path: Path, count: int, size: int) -> None:
    context = multiprocessing.get_context("spawn")
    stop, results = context.Event(), context.Queue()
    with connect(tmp_path) as connection:
        connection.SimpleQueue(QUEUE).close()
    readers = [context.Process(target=_consume, args=(tmp_path, stop, results)) for _ in range(3)]
    writers = [context.Process(target=_produce, args=(tmp_path, each, count, size)) for each in range(3)]
    for process in (*readers, *writers):
        process.start()
    for process in writers:
        process.join()
        assert process.exitcode == 0
    stop.set()
    seen, ended = [], 0
    while ended < 3:
        result = results.get(timeout=60)
        if result is None:
            ended += 1
        else:
            seen.append(result)
    for process in readers:
        process.join()
    assert sorted(name for name, _ in seen) == sorted(f"{w}-{n}" for w in range(3) for n in range(count))
    assert {length for _, length in seen} == {size}
