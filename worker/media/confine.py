"""What a media child gives up before it looks at a single untrusted byte (Linux).

Resource limits, no new privileges, its own user and network namespace, Landlock and a system-call filter: afterwards
the process reads the interpreter, the libraries, our own code and what it was granted, writes only where it was
granted, starts no process, opens no socket, signals nobody outside and traces nobody. Each step that the kernel does
not offer is skipped and reported; the limits and `no_new_privs` are always there.

Sources: landlock(7), prctl(2), unshare(2), setrlimit(2).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from worker.media.seccomp import refuse_system_calls

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_RULE_PATH_BENEATH: Final = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BASE_FS: Final = (1 << 13) - 1
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_FILE_ONLY: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

# What an interpreter and numeric libraries read of a machine. /etc as a whole is not among them.
_SYSTEM_READS: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
)
_SYSTEM_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


@dataclass(frozen=True)
class Limits:
    """What one child may use. `memory` is address space in bytes: libraries reserve more than they touch."""

    memory: int = 4 << 30
    cpu_seconds: int = 1800
    file_size: int = 8 << 30
    open_files: int = 256
    threads: int = 2

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        return cls(**raw)


def die_with(parent: int) -> None:
    """Be killed as soon as the process `parent` (its id) ends; end now if it already has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def confine(limits: Limits, *, reads: Iterable[str], writes: Iterable[str]) -> dict[str, Any]:
    """Give everything up that reading media does not need, and report what the kernel granted of it.

    Must run while the process has one thread. Returns {"no_new_privs", "user_namespace", "network", "files",
    "system_calls"} where `network` is "none" or "open", `files` is the Landlock version in force, 0 for none, and
    `system_calls` tells whether the filter of `worker.media.seccomp` is.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    network, namespace = _leave_network()
    files = _landlock(reads, writes)
    filtered = refuse_system_calls()
    if filtered:
        network = "none"
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_AS, limits.memory),
    ):
        _lower(what, value, value)
    # SIGXCPU comes at the soft limit and is told apart from a crash; the hard limit ends what ignores it.
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 5)
    return {
        "no_new_privs": True,
        "user_namespace": namespace,
        "network": network,
        "files": files,
        "system_calls": filtered,
    }


def _lower(what: int, soft: int, hard: int) -> None:
    _, ceiling = resource.getrlimit(what)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(what, (soft, hard))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl refused")


def _leave_network() -> tuple[str, bool]:
    """Enter an empty network namespace, by way of a new user namespace, which also drops capabilities of root."""
    libc = _libc()
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        except OSError:
            pass  # unmapped ids work as well: files keep being judged by the real ones
        return "none", True
    return ("none" if libc.unshare(_CLONE_NEWNET) == 0 else "open"), False


def _landlock(reads: Iterable[str], writes: Iterable[str]) -> int:
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return 0
    handled = _BASE_FS
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        handled |= right if version >= since else 0
    attributes = struct.pack("=Q", handled)
    if version >= 4:
        attributes += struct.pack("=Q", 3)  # neither bind nor connect a TCP socket
    if version >= 6:
        attributes += struct.pack("=Q", 3)  # no abstract sockets and no signals to outside
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return 0
    try:
        interpreter = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent)]
        for path in (*_SYSTEM_READS, *interpreter, *reads):
            _allow(libc, ruleset, path, _READ & handled)
        for path in _SYSTEM_DEVICES:
            _allow(libc, ruleset, path, (_READ_FILE | _WRITE_FILE) & handled)
        for path in writes:
            _allow(libc, ruleset, path, handled & ~_EXECUTE)
        return version if libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0 else 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no right
    try:
        if not Path(path).is_dir():
            rights &= _FILE_ONLY
        rule = struct.pack("=Qi", rights, fd)
        libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)
