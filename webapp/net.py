"""Fetches what strangers name: https from public addresses only, of bounded size and time.

The name is resolved once, every address it has must be public, and the connection goes to one of those addresses while
TLS and the `Host` header keep the name, so a name that changes its address in between (DNS rebinding) gains nothing.
Redirects are followed by us, each under the same rules. Nothing of the environment (proxies, netrc, cookies) is used.
`http.client` speaks the protocol; it neither decodes contents nor follows anything by itself.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from urllib.parse import quote, urljoin, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MEDIA_BYTES: Final = 200 << 20
MANIFEST_BYTES: Final = 5 << 20
LONGEST_URL: Final = 2000
_CHUNK: Final = 256 << 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_AGENT: Final = "Imprimatur-verifier"
# Not left to `is_global` alone, whose tables differ between Python's releases (IANA special-purpose registries).
_NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        # Of IPv6 only 2000::/3 is handed out at all; these parts of it are not hosts, or hide an IPv4 address.
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)
_UNICAST: Final = ipaddress.ip_network("2000::/3")

_TEXTS: Final[dict[str, tuple[str, str]]] = {
    "url_invalid": (
        "This is not an address that can be fetched.",
        "Give a whole https:// address without a user name, on the usual port.",
    ),
    "url_not_public": (
        "This address does not lead to the public internet.",
        "Give the address of a file that everybody can reach.",
    ),
    "url_unknown_host": ("There is no such host.", "Check the address."),
    "url_unreachable": ("The other server could not be reached.", "Check the address, or try again later."),
    "url_tls_failed": (
        "The other server did not prove that it is the one named in the address.",
        "Download the file yourself and send it here.",
    ),
    "url_timeout": ("The other server took too long.", "Try again later, or download the file and send it here."),
    "url_too_large": ("The file at this address is larger than allowed.", "Send a smaller one."),
    "url_redirects": ("The address leads from one to another too often.", "Give the address of the file itself."),
    "url_answer": ("The other server did not give the file.", "Check that the address leads to the file itself."),
    "url_incomplete": ("The other server ended the file too early.", "Try again."),
    "url_encoded": (
        "The other server sent the file packed, which is not accepted.",
        "Download the file yourself and send it here.",
    ),
}


class FetchError(Exception):
    """An address that was not fetched. `code` is stable, one of `_TEXTS`; `detail` is for the log only."""

    def __init__(self, code: str, detail: str = "") -> None:
        happened, hint = _TEXTS[code]
        super().__init__(f"{happened} Nothing was kept. {hint}")
        self.code = code
        self.detail = detail
        self.status = 413 if code == "url_too_large" else 422


def is_public(address: Address) -> bool:
    """May a stranger's name lead there? Only addresses of hosts in the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is not None:
            return is_public(mapped)
        if address not in _UNICAST:
            return False
    return address.is_global and not any(address in network for network in _NEVER if network.version == address.version)


def system_resolver(host: str, port: int) -> list[str]:
    """All addresses of a name, as the system knows them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Policy:
    """What may be fetched. Seconds; `permits` and `resolve` are arguments, so that no environment can widen them."""

    max_bytes: int = MEDIA_BYTES
    ports: frozenset[int] = frozenset({443})
    max_redirects: int = 3
    step_seconds: float = 5.0  # to connect, and for each piece that is read
    total_seconds: float = 60.0  # from the first look-up to the last byte, redirects included
    permits: Callable[[Address], bool] = is_public
    resolve: Callable[[str, int], list[str]] = system_resolver
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)


@dataclass(frozen=True)
class Fetched:
    """What came: size in bytes, the content type as the other server names it, and where it finally came from."""

    size: int
    content_type: str
    url: str


def fetch(url: str, dest: Path, policy: Policy | None = None) -> Fetched:
    """GET `url` into the new file `dest`, which stays only if it is whole. Raises FetchError, OSError for the disk."""
    rules = policy or Policy()
    deadline = time.monotonic() + rules.total_seconds
    for _ in range(rules.max_redirects + 1):
        with _response(url, rules, deadline) as response:
            if response.status in _REDIRECTS:
                url = urljoin(url, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise FetchError("url_answer", f"status {response.status}")
            if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
                raise FetchError("url_encoded")
            with dest.open("xb") as file:
                try:
                    size = _save(response, file, rules, deadline)
                    file.flush()
                except BaseException:
                    dest.unlink(missing_ok=True)
                    raise
            return Fetched(size, response.headers.get("Content-Type", "")[:100], url)
    raise FetchError("url_redirects")


def post(url: str, body: bytes, headers: Mapping[str, str], policy: Policy | None = None) -> int:
    """POST `body`; the status of the answer, of which nothing else is kept. Redirects are not followed.

    Raises FetchError for an address that is not permitted or did not answer in time.
    """
    rules = policy or Policy()
    deadline = time.monotonic() + rules.total_seconds
    with _response(url, rules, deadline, verb="POST", body=body, headers=headers) as response:
        size = 0
        while size < rules.max_bytes and (piece := response.read1(_CHUNK)):
            _left(rules, deadline)
            size += len(piece)  # read, so that the other server may finish; how it ends does not matter
        return response.status


@dataclass(frozen=True)
class Body:
    """What a request carries: `before`, all bytes of `file`, `after`."""

    before: bytes = b""
    file: Path | None = None
    after: bytes = b""

    def pieces(self) -> Iterator[bytes]:
        """Its bytes in turn. Raises OSError for a file that cannot be read."""
        yield self.before
        if self.file is not None:
            with self.file.open("rb") as source:
                while piece := source.read(_CHUNK):
                    yield piece
        yield self.after

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.before) + (self.file.stat().st_size if self.file is not None else 0) + len(self.after)


@dataclass(frozen=True)
class Exchanged:
    """An answer of any status; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def exchange(verb: str, url: str, body: Body, headers: Mapping[str, str], policy: Policy | None = None) -> Exchanged:
    """One request of any kind, and its answer whole. Redirects are not followed: `headers` may hold a key.

    Raises FetchError for an address that is not permitted, an answer that is too large or too late; OSError.
    """
    rules = policy or Policy()
    deadline = time.monotonic() + rules.total_seconds
    length = {"Content-Length": str(body.size)} if verb != "GET" else {}
    pieces = body.pieces() if verb != "GET" else None
    with _response(url, rules, deadline, verb=verb, body=pieces, headers={**headers, **length}) as response:
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise FetchError("url_encoded")
        kept = io.BytesIO()
        _save(response, kept, rules, deadline)
        return Exchanged(response.status, {k.lower(): v for k, v in response.headers.items()}, kept.getvalue())


def check(url: str, policy: Policy | None = None) -> None:
    """Raises FetchError url_invalid for an address that could never be asked. Nobody is asked here."""
    _place(url, policy or Policy())


@dataclass(frozen=True)
class _Place:
    """A checked address: where to ask, and for what."""

    host: str
    port: int
    target: str


def _place(url: str, rules: Policy) -> _Place:
    """Take an address apart. Raises FetchError url_invalid for all that is not plain https on a permitted port."""
    if not 0 < len(url) <= LONGEST_URL or any(char.isspace() or not char.isprintable() or char == "\\" for char in url):
        raise FetchError("url_invalid", "length or characters")
    try:
        parts = urlsplit(url)
        port = parts.port or 443
        host = (parts.hostname or "").rstrip(".").encode("idna").decode("ascii")
    except ValueError as error:
        raise FetchError("url_invalid", str(error)) from error
    if parts.scheme != "https" or not host or "@" in parts.netloc or "%" in host or port not in rules.ports:
        raise FetchError("url_invalid", "scheme, host, user name or port")
    safe = "/%:@!$&'()*+,;=-._~"
    target = quote(parts.path or "/", safe=safe)
    return _Place(host, port, f"{target}?{quote(parts.query, safe=safe + '?')}" if parts.query else target)


def _addresses(place: _Place, rules: Policy, deadline: float) -> list[str]:
    """The addresses of a place, all of them permitted. Raises FetchError."""
    answer: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(rules.resolve(place.host, place.port))
        except (OSError, ValueError) as error:  # UnicodeError of an impossible name is a ValueError
            answer.put(error)

    # The system's resolver cannot be told how long it may take; a thread of its own can be left behind.
    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=_left(rules, deadline))
    except queue.Empty:
        raise FetchError("url_timeout", "name look-up") from None
    if isinstance(found, Exception) or not found:
        raise FetchError("url_unknown_host", str(found))
    for text in found:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise FetchError("url_not_public", text) from None
        if not rules.permits(address):
            raise FetchError("url_not_public", text)
    return found


def _left(rules: Policy, deadline: float) -> float:
    """Seconds the next step may take. Raises FetchError url_timeout when there are none."""
    left = min(rules.step_seconds, deadline - time.monotonic())
    if left <= 0:
        raise FetchError("url_timeout", "in all")
    return left


class _Reader(io.RawIOBase):
    """A socket's bytes, each piece within the time that is left: without it a server could drip a header for hours."""

    def __init__(self, connected: ssl.SSLSocket, rules: Policy, deadline: float) -> None:
        super().__init__()
        self._socket, self._rules, self._deadline = connected, rules, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(_left(self._rules, self._deadline))
        return self._socket.recv_into(buffer)


class _Wire:
    """What http.client needs of a socket."""

    def __init__(self, connected: ssl.SSLSocket, rules: Policy, deadline: float) -> None:
        self._socket, self._rules, self._deadline = connected, rules, deadline

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_left(self._rules, self._deadline))
        self._socket.sendall(data)

    def makefile(self, mode: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Reader(self._socket, self._rules, self._deadline)))

    def close(self) -> None:
        """Not yet: http.client lets go of its socket before the body has been read. `_response` closes it."""


def _connected(place: _Place, rules: Policy, deadline: float) -> ssl.SSLSocket:
    """TLS to the first address that answers, with the certificate checked against the name."""
    trouble: OSError | None = None
    for address in _addresses(place, rules, deadline):
        try:
            plain = socket.create_connection((address, place.port), timeout=_left(rules, deadline))
        except OSError as error:
            trouble = error
            continue
        try:
            plain.settimeout(_left(rules, deadline))
            return rules.tls.wrap_socket(plain, server_hostname=place.host)
        except BaseException:
            plain.close()
            raise
    if isinstance(trouble, TimeoutError):
        raise FetchError("url_timeout", "connecting") from trouble
    raise FetchError("url_unreachable", str(trouble)) from trouble


@contextmanager
def _response(
    url: str,
    rules: Policy,
    deadline: float,
    *,
    verb: str = "GET",
    body: bytes | Iterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """The answer to one request; what it says has not been read yet."""
    place = _place(url, rules)
    try:
        with closing(_connected(place, rules, deadline)) as connected:
            connection = http.client.HTTPSConnection(place.host, place.port)
            connection.sock = cast(Any, _Wire(connected, rules, deadline))
            said = {"User-Agent": _AGENT, "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
            connection.request(verb, place.target, body=body, headers={**said, **(headers or {})})
            with connection.getresponse() as response:
                yield response
    except TimeoutError as error:
        raise FetchError("url_timeout", "reading") from error
    except ssl.SSLError as error:
        raise FetchError("url_tls_failed", str(error)) from error
    except http.client.IncompleteRead as error:
        raise FetchError("url_incomplete") from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise FetchError("url_answer", str(error)[:200]) from error


def _save(response: http.client.HTTPResponse, file: BinaryIO, rules: Policy, deadline: float) -> int:
    """Write the body; the declared length is believed only when it is too much."""
    declared = response.length
    if declared is not None and declared > rules.max_bytes:
        raise FetchError("url_too_large", f"{declared} bytes declared")
    size = 0
    while piece := response.read1(_CHUNK):
        _left(rules, deadline)
        size += len(piece)
        if size > rules.max_bytes:
            raise FetchError("url_too_large")
        file.write(piece)
    if declared is not None and size < declared:
        raise FetchError("url_incomplete", f"{size} of {declared} bytes")
    return size
