"""The client that fetches what strangers name, against real TLS servers on loopback.

Loopback is reached only by a policy that a test passes by hand; there is no other way to widen the rules.
"""

from __future__ import annotations

import gzip
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from webapp.net import FetchError, Policy, fetch, is_public

NAME = "files.example.org"
Answer = Callable[[ssl.SSLSocket, str], None]


def issue(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for one name, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


class Server:
    """A TLS server on 127.0.0.1; `answer` writes what it likes for a path, `seen` are the requests as they came."""

    def __init__(self, chain: Path, key: Path) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(chain, key)
        self.trust = ssl.create_default_context(cafile=str(chain))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        self.seen: list[bytes] = []
        self.answer: Answer = lambda connected, path: None
        self.ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(plain,), daemon=True).start()

    def _one(self, plain: socket.socket) -> None:
        try:
            with self.tls.wrap_socket(plain, server_side=True) as connected:
                request = b""
                while b"\r\n\r\n" not in request and (piece := connected.recv(4096)):
                    request += piece
                self.seen.append(request)
                self.answer(connected, request.split(b" ")[1].decode() if b" " in request else "")
        except OSError:
            pass

    def close(self) -> None:
        self.ended.set()
        self.socket.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(*issue(tmp_path, NAME))
    yield made
    made.close()


@pytest.fixture
def rules(server: Server) -> Callable[..., Policy]:
    """A policy that lets this test reach its own server under a made-up name."""

    def make(**changes: Any) -> Policy:
        values = {
            "ports": frozenset({server.port}),
            "permits": lambda address: address.is_loopback,
            "resolve": lambda host, port: ["127.0.0.1"],
            "tls": server.trust,
            "step_seconds": 2.0,
            "total_seconds": 10.0,
        }
        return Policy(**(values | changes))

    return make


def head(length: int | None, *more: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join([*lines, "", ""])).encode()


def send(*pieces: bytes) -> Answer:
    def answer(connected: ssl.SSLSocket, path: str) -> None:
        for piece in pieces:
            connected.sendall(piece)

    return answer


def refused(code: str, url: str, dest: Path, policy: Policy | None = None) -> FetchError:
    """The error of a fetch, with nothing left of it."""
    with pytest.raises(FetchError) as raised:
        fetch(url, dest, policy)
    assert raised.value.code == code
    assert "Nothing was kept." in str(raised.value)
    assert not dest.exists()
    return raised.value


def test_a_file_comes_whole_with_name_and_host_kept(
    server: Server, rules: Callable[..., Policy], tmp_path: Path
) -> None:
    server.answer = send(head(5, "Content-Type: image/jpeg"), b"hello")
    url = f"https://{NAME}:{server.port}/a%20b/ü?q=1&x=%2F#part"
    got = fetch(url, tmp_path / "file", rules())
    assert (got.size, got.content_type) == (5, "image/jpeg")
    assert (tmp_path / "file").read_bytes() == b"hello"
    line, *headers = server.seen[0].decode().split("\r\n")
    assert line == "GET /a%20b/%C3%BC?q=1&x=%2F HTTP/1.1"
    assert f"Host: {NAME}:{server.port}" in headers
    assert "Accept-Encoding: identity" in headers


def test_chunks_and_bodies_that_end_with_the_connection_come_too(
    server: Server, rules: Callable[..., Policy], tmp_path: Path
) -> None:
    for number, answer in enumerate(
        (
            send(head(None, "Transfer-Encoding: chunked"), b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
            send(head(None), b"abcde"),
        )
    ):
        server.answer = answer
        fetch(f"https://{NAME}:{server.port}/", tmp_path / str(number), rules())
        assert (tmp_path / str(number)).read_bytes() == b"abcde"


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example.org/a.jpg",
        "ftp://files.example.org/a.jpg",
        "file:///etc/passwd",
        "//files.example.org/a.jpg",
        "https://user:secret@files.example.org/",
        "https://@files.example.org/",
        "https://files.example.org:8443/",
        "https://files.example.org:99999/",
        "https://files.example.org:0443x/",
        "https:///a.jpg",
        "https://files.example.org\\@127.0.0.1/",
        "https://files.example.org/a b",
        "https://files.example.org/\r\nHost: inside",
        "https://files.example.org/\u202egpj.exe",
        "https://[::1%25eth0]/",
        "https://[::1/",
        "https://" + "a" * 64 + ".org/",
        "https://files.example.org/" + "a" * 2000,
        "",
    ],
)
def test_what_is_no_plain_https_address_is_refused_before_any_look_up(url: str, tmp_path: Path) -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError("looked up")

    refused("url_invalid", url, tmp_path / "file", Policy(resolve=never))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "localhost",
        "localhost.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00::1]",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_addresses_inside_are_refused_in_every_spelling(host: str, tmp_path: Path) -> None:
    """The system's own resolver reads them; none needs a name server."""
    refused("url_not_public", f"https://{host}/", tmp_path / "file")


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1"])
def test_addresses_of_the_public_internet_are_permitted(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["192.0.0.8", "198.18.0.1", "203.0.113.9", "240.0.0.1", "2001:db8::1", "3fff::1"])
def test_special_addresses_are_not(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


def test_one_inner_address_among_public_ones_is_enough_to_refuse(tmp_path: Path) -> None:
    policy = Policy(resolve=lambda host, port: ["93.184.216.34", "10.0.0.5"])
    refused("url_not_public", f"https://{NAME}/", tmp_path / "file", policy)


def test_a_name_that_changes_its_address_is_connected_where_it_was_checked(
    server: Server, rules: Callable[..., Policy], tmp_path: Path
) -> None:
    """DNS rebinding: the second answer is never asked for."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    server.answer = send(head(2), b"ok")
    policy = rules(resolve=lambda host, port: next(answers))
    fetch(f"https://{NAME}:{server.port}/", tmp_path / "file", policy)
    assert next(answers) == ["127.0.0.2"]
    assert len(server.seen) == 1


def test_a_redirect_is_followed_under_the_same_rules(
    server: Server, rules: Callable[..., Policy], tmp_path: Path
) -> None:
    def answer(connected: ssl.SSLSocket, path: str) -> None:
        moved = head(0, "Location: /there", status="302 Found")
        connected.sendall(moved if path == "/here" else head(2) + b"ok")

    server.answer = answer
    got = fetch(f"https://{NAME}:{server.port}/here", tmp_path / "file", rules())
    assert got.url.endswith("/there")
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("https://10.0.0.1:{port}/", "url_not_public"),
        ("https://[::ffff:10.0.0.1]:{port}/", "url_not_public"),
        ("https://inside.example.org:{port}/", "url_not_public"),
        ("http://files.example.org:{port}/", "url_invalid"),
        ("https://user@files.example.org:{port}/", "url_invalid"),
        ("https://files.example.org:22/", "url_invalid"),
        ("file:///etc/passwd", "url_invalid"),
    ],
)
def test_a_redirect_to_where_nobody_may_go_is_refused(
    location: str, code: str, server: Server, rules: Callable[..., Policy], tmp_path: Path
) -> None:
    server.answer = send(head(0, f"Location: {location.format(port=server.port)}", status="301 Moved"))
    policy = rules(resolve=lambda host, port: ["127.0.0.1"] if host == NAME else ["10.0.0.1"])
    refused(code, f"https://{NAME}:{server.port}/", tmp_path / "file", policy)
    assert len(server.seen) == 1


def test_redirects_end_after_three(server: Server, rules: Callable[..., Policy], tmp_path: Path) -> None:
    server.answer = send(head(0, "Location: /again", status="307 Temporary Redirect"))
    refused("url_redirects", f"https://{NAME}:{server.port}/", tmp_path / "file", rules())
    assert len(server.seen) == 4


def test_a_body_larger_than_allowed_is_not_kept_whatever_was_declared(
    server: Server, rules: Callable[..., Policy], tmp_path: Path
) -> None:
    url = f"https://{NAME}:{server.port}/"
    small = rules(max_bytes=1000)
    server.answer = send(head(1001))
    assert refused("url_too_large", url, tmp_path / "file", small).status == 413
    server.answer = send(head(None), *[b"x" * 400] * 3)
    refused("url_too_large", url, tmp_path / "file", small)
    server.answer = send(head(None, "Transfer-Encoding: chunked"), *[b"190\r\n" + b"x" * 400 + b"\r\n"] * 3)
    refused("url_too_large", url, tmp_path / "file", small)
    server.answer = send(head(1000), b"x" * 5000)  # more than declared: the rest is not read
    assert fetch(url, tmp_path / "file", small).size == 1000


def test_a_body_shorter_than_declared_is_not_kept(server: Server, rules: Callable[..., Policy], tmp_path: Path) -> None:
    url = f"https://{NAME}:{server.port}/"
    server.answer = send(head(100), b"short")
    refused("url_incomplete", url, tmp_path / "file", rules())
    server.answer = send(head(None, "Transfer-Encoding: chunked"), b"64\r\nshort")
    refused("url_incomplete", url, tmp_path / "file", rules())


def test_nothing_is_unpacked(server: Server, rules: Callable[..., Policy], tmp_path: Path) -> None:
    """A bomb in gzip stays as small as it is: its encoding alone is reason enough."""
    bomb = gzip.compress(b"\0" * (8 << 20))
    server.answer = send(head(len(bomb), "Content-Encoding: gzip"), bomb)
    refused("url_encoded", f"https://{NAME}:{server.port}/", tmp_path / "file", rules())


@pytest.mark.parametrize("part", ["header", "body", "chunk size", "nothing"])
def test_a_server_that_drips_is_left_when_the_time_is_up(
    part: str, server: Server, rules: Callable[..., Policy], tmp_path: Path
) -> None:
    """Every piece comes within the time for one step, but there is an end to all of them together."""
    beginnings = {
        "header": b"HTTP/1.1 200 OK\r\nX: ",
        "body": head(100_000),
        "chunk size": head(None, "Transfer-Encoding: chunked") + b"1\r\na\r\n",
        "nothing": b"",
    }

    def drip(connected: ssl.SSLSocket, path: str) -> None:
        connected.sendall(beginnings[part])
        while part != "nothing" and not server.ended.wait(0.1):
            connected.sendall(b"0")
        server.ended.wait(10)

    server.answer = drip
    policy = rules(step_seconds=0.6, total_seconds=1.2)
    started = time.monotonic()
    refused("url_timeout", f"https://{NAME}:{server.port}/", tmp_path / "file", policy)
    assert time.monotonic() - started < 8  # far more than asked, far less than the drip


def test_a_resolver_that_hangs_does_not_hold_us(tmp_path: Path) -> None:
    held = threading.Event()

    def slow(host: str, port: int) -> list[str]:
        held.wait(20)
        return []

    policy = Policy(resolve=slow, step_seconds=0.3)
    refused("url_timeout", f"https://{NAME}/", tmp_path / "file", policy)
    held.set()


def test_a_certificate_for_another_name_is_not_accepted(
    server: Server, rules: Callable[..., Policy], tmp_path: Path
) -> None:
    refused("url_tls_failed", f"https://other.example.org:{server.port}/", tmp_path / "file", rules())
    assert server.seen == []


def test_an_unknown_authority_is_not_accepted(server: Server, rules: Callable[..., Policy], tmp_path: Path) -> None:
    policy = rules(tls=ssl.create_default_context())
    refused("url_tls_failed", f"https://{NAME}:{server.port}/", tmp_path / "file", policy)


def test_answers_that_are_no_file_are_told_apart(server: Server, rules: Callable[..., Policy], tmp_path: Path) -> None:
    url = f"https://{NAME}:{server.port}/"
    for answer in (send(head(2, status="404 Not Found"), b"no"), send(b"hello there\r\n\r\n"), send()):
        server.answer = answer
        refused("url_answer", url, tmp_path / "file", rules())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        refused("url_unreachable", f"https://{NAME}:{port}/", tmp_path / "file", rules(ports=frozenset({port})))
    unknown = rules(resolve=lambda host, port: [])
    refused("url_unknown_host", url, tmp_path / "file", unknown)


def test_the_environment_names_no_proxy_for_it(
    server: Server, rules: Callable[..., Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:1")
    server.answer = send(head(2), b"ok")
    assert fetch(f"https://{NAME}:{server.port}/", tmp_path / "file", rules()).size == 2


def test_a_file_that_is_there_already_is_not_touched(
    server: Server, rules: Callable[..., Policy], tmp_path: Path
) -> None:
    server.answer = send(head(2), b"ok")
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        fetch(f"https://{NAME}:{server.port}/", tmp_path / "file", rules())
    assert (tmp_path / "file").read_bytes() == b"mine"
