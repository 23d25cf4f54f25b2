"""A system-call filter for the media child: threads yes; processes, programs, sockets, priority and side doors no.

Without it a decoder that was taken over could start a process in a session of its own, which would outlive the child.
It also takes the network away where the kernel or a container gives no namespaces.

Sources: seccomp(2), the kernel's seccomp_filter.rst; system-call numbers from asm/unistd_64.h and asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from dataclasses import dataclass
from typing import Final

_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
_CLONE_THREAD: Final = 0x00010000
_AF_UNIX: Final = 1
# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits (little endian).
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000


@dataclass(frozen=True)
class _Machine:
    audit: int
    clone: int
    clone3: int
    socket: int
    denied: tuple[int, ...]


# denied, in order: (fork, vfork,) execve, execveat, ptrace, process_vm_readv, process_vm_writev, bpf, userfaultfd,
# perf_event_open, mount, umount2, pivot_root, setns, unshare, add_key, request_key, keyctl, io_uring_setup,
# init_module, pidfd_getfd, open_by_handle_at, sched_setparam, sched_setscheduler, sched_setattr (an encoder that runs
# as root takes real-time priority, which can stop a whole machine)
_MACHINES: Final = {
    "x86_64": _Machine(
        audit=0xC000003E,
        clone=56,
        clone3=435,
        socket=41,
        denied=(57, 58, 59, 322, 101, 310, 311, 321, 323, 298, 165, 166, 155, 308, 272, 248, 249, 250, 425, 175)
        + (438, 304, 142, 144, 314),
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        clone=220,
        clone3=435,
        socket=198,
        denied=(221, 281, 117, 270, 271, 280, 282, 241, 40, 39, 41, 268, 97, 217, 218, 219, 425, 105, 438, 265)
        + (118, 119, 274),
    ),
}


def refuse_system_calls() -> bool:
    """Install the filter on this thread and all it will start; True if it is in force.

    Needs `no_new_privs`. False on a processor without a table and on a kernel without filters.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    program = _program(machine)
    code = ctypes.create_string_buffer(b"".join(program), 8 * len(program))
    # struct sock_fprog: unsigned short length, pointer
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), header, 0, 0)) == 0


def _program(machine: _Machine) -> list[bytes]:
    refuse, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    lines = [
        _line(_LOAD, _ARCHITECTURE),
        _line(_EQUAL, machine.audit, 1, 0),
        _line(_RETURN, refuse),  # 32-bit calls of a 64-bit process have other numbers
        _line(_LOAD, _NUMBER),
        _line(_AT_LEAST, 0x40000000, 0, 1),
        _line(_RETURN, refuse),  # the x32 twins
    ]
    for number in machine.denied:
        lines += [_line(_EQUAL, number, 0, 1), _line(_RETURN, refuse)]
    # The flags of clone3 lie in memory, where a filter cannot look; told that it is missing, libc uses clone.
    lines += [_line(_EQUAL, machine.clone3, 0, 1), _line(_RETURN, missing)]
    lines += [
        _line(_EQUAL, machine.clone, 0, 4),
        _line(_LOAD, _FIRST_ARGUMENT),
        _line(_ANY_BIT, _CLONE_THREAD, 0, 1),
        _line(_RETURN, _ALLOW),
        _line(_RETURN, refuse),
        _line(_EQUAL, machine.socket, 0, 3),
        _line(_LOAD, _FIRST_ARGUMENT),
        _line(_EQUAL, _AF_UNIX, 1, 0),
        _line(_RETURN, refuse),
        _line(_RETURN, _ALLOW),
    ]
    return lines


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
