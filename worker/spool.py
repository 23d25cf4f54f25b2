"""A broker for one machine that is only a folder: kombu's virtual transport `spool`.

A message is published whole or not at all (temporary file, fsync, rename) and belongs to the reader who renames it
away, so there are no torn reads and no two readers. Reading unlinks it: recovery after a killed worker is the job's
lease and the sweeper's, not the broker's (DESIGN.md decisions 1 and 2). One host, one local disk.

Fanout is not offered, and the driver's name is its own; Celery then leaves out gossip, mingle and remote control.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import time
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import virtual

logger = logging.getLogger(__name__)

SUFFIX = ".msg"
TEMPORARY = ".tmp-"
TAKEN = ".taken-"
STALE_SECONDS = 3600.0  # a temporary or taken file this old was left by a killed process
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")

_counter = itertools.count()


class Channel(virtual.Channel):
    """One queue is one folder; the file names sort by time of publication."""

    supports_fanout = False

    @property
    def folder(self) -> Path:
        """The spool's root, from the transport option `folder`."""
        return Path(self.connection.client.transport_options["folder"])

    def _queue_folder(self, queue: str) -> Path:
        # Dots and slashes cannot lead out of the spool; the hex keeps different names apart.
        safe = UNSAFE.sub(lambda match: "".join(f"%{byte:02x}" for byte in match[0].encode()), queue)
        return self.folder / safe

    def _new_queue(self, queue: str, **_: Any) -> None:
        self._queue_folder(queue).mkdir(parents=True, exist_ok=True, mode=0o700)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return self._queue_folder(queue).is_dir()

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        folder = self._queue_folder(queue)
        name = f"{time.time_ns():020d}-{os.getpid():07d}-{next(_counter):09d}{SUFFIX}"
        temporary = folder / f"{TEMPORARY}{name}"
        data = json.dumps(message).encode()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        folder = self._queue_folder(queue)
        for name in self._names(folder):
            taken = folder / f"{TAKEN}{os.getpid()}-{next(_counter)}-{name}"
            try:
                (folder / name).rename(taken)  # exactly one reader gets it
                data = taken.read_bytes()
                taken.unlink()
            except FileNotFoundError:
                continue
            except OSError:
                # A folder in a message's place, a file of somebody else: leave it be, the queue goes on.
                logger.warning("The spool skipped %s, which cannot be read.", name, exc_info=True)
                continue
            message = _message(data)
            if message is not None:
                return message
            logger.error(
                "The spool dropped %s: %s bytes that are no message. The sweeper sends it again.", name, len(data)
            )
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._names(self._queue_folder(queue)))

    def _purge(self, queue: str) -> int:
        folder = self._queue_folder(queue)
        count = 0
        for name in self._names(folder):
            try:
                (folder / name).unlink()
                count += 1
            except OSError:
                continue
        return count

    def _delete(self, queue: str, *_: Any, **__: Any) -> None:
        self._purge(queue)

    def _names(self, folder: Path) -> list[str]:
        """Message files, oldest first."""
        try:
            with os.scandir(folder) as entries:
                return sorted(e.name for e in entries if e.name.endswith(SUFFIX) and not e.name.startswith("."))
        except FileNotFoundError:
            return []


class Transport(virtual.Transport):
    """`broker_url = "spool://"` with `broker_transport_options = {"folder": …, "polling_interval": 0.1}`."""

    Channel = Channel
    implements = virtual.Transport.implements.extend(exchange_type=frozenset(["direct", "topic"]))
    global_state = virtual.BrokerState()
    driver_type = "spool"
    driver_name = "spool"
    default_port = 0
    polling_interval = 0.1

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.state = self.global_state

    def driver_version(self) -> str:
        """For Celery's banner."""
        return "1"

    def verify_connection(self, connection: Any) -> bool:
        """The spool is there whenever its folder is."""
        return True


def remove_leftovers(root: Path) -> int:
    """Delete temporary and taken files that a killed process left; how many. Safe beside running readers."""
    count = 0
    limit = time.time() - STALE_SECONDS
    for pattern in (f"{TEMPORARY}*", f"{TAKEN}*"):
        for path in root.glob(f"*/{pattern}"):
            try:
                if path.stat().st_mtime < limit:
                    path.unlink()
                    count += 1
            except OSError:
                continue
    return count


def _message(data: bytes) -> dict[str, Any] | None:
    """The message in a file's bytes, or None for anything that is not one."""
    try:
        message = json.loads(data)
    except ValueError:
        return None
    wellformed = (
        isinstance(message, dict)
        and isinstance(message.get("body"), str)
        and isinstance(message.get("headers"), dict)
        and isinstance(message.get("properties"), dict)
        and isinstance(message["properties"].get("delivery_info"), dict)
        and "delivery_tag" in message["properties"]
    )
    return message if wellformed else None
