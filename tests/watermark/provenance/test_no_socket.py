"""No address that a file names is asked while the file is read: no socket is opened, no connection arrives."""

from __future__ import annotations

import contextlib
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import c2pa
import pytest

from tests.watermark.provenance.hostile import corpus
from watermark.credentials import Credentials
from watermark.credentials_reader import closed_settings
from watermark.manifest import read
from worker.media import client
from worker.media.errors import MediaError

ROOT = Path(__file__).resolve().parents[3]


class Listener:
    """Counts connections on loopback, and answers none."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.connections = 0
        self._came = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._came.set()
            connection.close()

    def asked(self, seconds: float = 10.0) -> bool:
        """Whether somebody came; waits for it."""
        return self._came.wait(seconds)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def files(plain_media: dict[str, Path], tmp_path: Path, listener: Listener) -> dict[Path, str]:
    folder = tmp_path / "hostile"
    folder.mkdir()
    return corpus(plain_media, folder, listener.address)


def named(files: dict[Path, str], name: str) -> Path:
    return next(path for path in files if path.name == name)


def test_the_corpus_is_hostile_to_the_library_as_it_comes(files: dict[Path, str], listener: Listener) -> None:
    """The control: without the closed settings these files do make the library ask."""
    for name, settings in (("remote.jpg", {}), ("ocsp.jpg", {"verify": {"ocsp_fetch": True}})):
        before = listener.connections
        listener._came.clear()
        with (
            contextlib.suppress(c2pa.C2paError),
            c2pa.Context.from_dict(settings) as context,
            named(files, name).open("rb") as file,
        ):
            c2pa.Reader("image/jpeg", file, context=context).json()
        assert listener.asked(), name
        assert listener.connections > before, name


def test_no_connection_is_made_for_any_hostile_file(files: dict[Path, str], listener: Listener) -> None:
    for path, mime in files.items():
        found = read(path, mime, anchors_pem="")
        assert found.state in ("none", "remote_only", "valid", "invalid", "broken"), path.name
        sent = client.read_credentials(path, mime, "")
        assert Credentials.from_dict(sent).state == found.state, path.name
        with contextlib.suppress(MediaError), client.examine(path) as examined:
            examined.probe()
    assert not listener.asked(0.3)
    assert listener.connections == 0


def test_a_remote_reference_is_told_and_not_followed(files: dict[Path, str], listener: Listener) -> None:
    found = read(named(files, "remote.jpg"), "image/jpeg", anchors_pem="")
    assert (found.state, found.remote_url) == ("remote_only", f"http://{listener.address}/store.c2pa")


def test_a_strangers_reference_is_not_followed_when_the_file_becomes_an_ingredient(
    files: dict[Path, str], listener: Listener
) -> None:
    settings = closed_settings("")
    for name in ("remote.jpg", "ocsp.jpg", "did.jpg", "ingredient.jpg"):
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Builder({"claim_generator_info": [{"name": "x"}]}, context=context) as builder,
            named(files, name).open("rb") as file,
        ):
            try:
                builder.add_ingredient({"title": "x", "relationship": "parentOf"}, "image/jpeg", file)
            except c2pa.C2paError:
                continue
    assert not listener.asked(0.3)


# A seccomp filter that kills the process at its first socket(2): what survives it opened none.
CHILD = """
import ctypes, struct, sys
from pathlib import Path
import c2pa
from watermark.manifest import read
read(Path(sys.argv[2]), "image/jpeg", anchors_pem="")  # everything is loaded before the filter closes
def instruction(code, jt, jf, k):
    return struct.pack("<HBBI", code, jt, jf, k)
program = b"".join([
    instruction(0x20, 0, 0, 0),            # load the system call's number
    instruction(0x15, 0, 1, 41),           # socket?
    instruction(0x06, 0, 0, 0x80000000),   # kill the process
    instruction(0x06, 0, 0, 0x7FFF0000),   # allow
])
held = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
filter = Filter(4, ctypes.addressof(held))
if libc.prctl(22, 2, ctypes.byref(filter), 0, 0) != 0:
    sys.exit(77)
for name in sys.argv[2:]:
    path, mime = name.split("|") if "|" in name else (name, "image/jpeg")
    if sys.argv[1] == "closed":
        print(read(Path(path), mime, anchors_pem="").state)
        continue
    try:
        c2pa.Reader(mime, open(path, "rb")).json()
    except c2pa.C2paError as error:
        print("asked", error)
"""


def in_child(how: str, *names: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, how, *names], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode == 77:
        pytest.skip("this kernel does not allow a seccomp filter here")
    return done


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the filter is written for Linux on x86-64"
)
def test_reading_the_whole_corpus_opens_no_socket(files: dict[Path, str]) -> None:
    first = str(next(path for path, mime in files.items() if mime == "image/jpeg"))
    for name in ("remote.jpg", "did-name.jpg"):
        control = in_child("open", str(named(files, name)))
        assert control.returncode == -31, (name, control)  # SIGSYS: the library's defaults do ask the network
    closed = in_child("closed", first, *(f"{path}|{mime}" for path, mime in files.items()))
    assert closed.returncode == 0, closed
    assert len(closed.stdout.splitlines()) == len(files) + 1
