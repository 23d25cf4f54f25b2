"""A file host on loopback that can misbehave as real ones do: cuts, other files under the same name, no ranges."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class ModelHost:
    """What the host holds and how it behaves; `asked` are the requests it saw: path and Range."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)  # bytes until the next answers are cut, one entry an answer
    ranges: bool = True
    validators: bool = True
    lengths: bool = True
    redirect_to: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def model_host() -> Iterator[ModelHost]:
    """Serve until the block ends."""
    host = ModelHost()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.asked.append((self.path, self.headers.get("Range", "")))
            if host.redirect_to:
                self.send_response(302)
                self.send_header("Location", host.redirect_to)
                self.end_headers()
                return
            data = host.files.get(self.path.rpartition("/")[2])
            if data is None:
                self.send_error(404)
                return
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            start, wanted = 0, self.headers.get("Range", "")
            if wanted and host.ranges and self.headers.get("If-Range") == tag:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start > len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if host.validators:
                self.send_header("ETag", tag)
            if host.lengths:
                self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            rest = data[start:]
            with suppress(ConnectionError):  # whoever asked has seen enough
                self.wfile.write(rest[: host.cut_after.pop(0)] if host.cut_after else rest)
            self.close_connection = True

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
