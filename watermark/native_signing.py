"""The native half of signing, made to run in a media child that has no key and no network.

The C2PA library parses what it is given: the media file, and manifests of strangers that an input carried. Neither may
happen beside the keys (DESIGN.md decision 4). So the whole of it runs where `sign_entry` is called, and asks its caller
for the two things it cannot have: a signature over the claim, and the answer of a time-stamp service. A child that was
taken over could have one wrong claim signed, no more: the caller answers one signature per call, asks the time-stamp
service of its own configuration only, and has the finished file read again in another child.

The library asks for time stamps through a resolver of its C interface (0.91), which the Python package does not bind
yet; with it in place, the library has no way to a socket of its own.
"""

from __future__ import annotations

import base64
import ctypes
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import c2pa
from c2pa import c2pa as binding

from watermark.credentials_reader import closed_settings, read

ALGORITHMS = {
    "es256": c2pa.C2paSigningAlg.ES256,
    "es384": c2pa.C2paSigningAlg.ES384,
    "es512": c2pa.C2paSigningAlg.ES512,
    "ps256": c2pa.C2paSigningAlg.PS256,
    "ps384": c2pa.C2paSigningAlg.PS384,
    "ps512": c2pa.C2paSigningAlg.PS512,
    "ed25519": c2pa.C2paSigningAlg.ED25519,
}
MAX_ANSWER = 1 << 20
"""Bytes of a signature or of a time-stamp reply."""

Ask = Callable[[str, bytes], bytes]
"""`ask("signature" | "time_stamp", request) -> answer`; raises when there is none."""


class NativeSigningError(Exception):
    """The library refused. `code` is manifest_signing; the message quotes the library and is for the operator."""

    code = "manifest_signing"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Conversation(Protocol):
    """What a media child offers (`worker.media.child.Channel`), as far as it is needed here."""

    def send(self, message: Mapping[str, Any]) -> None: ...
    def next_order(self) -> Mapping[str, Any]: ...


def sign_entry(payload: Mapping[str, Any], channel: Conversation) -> dict[str, Any]:
    """Entry for the media child: as `sign_native`, asking its caller by messages {"ask", "data"}, base64.

    The caller answers with an order {"answer"}, base64, or {"failed"}: then nothing was signed.
    """

    def ask(what: str, request: bytes) -> bytes:
        channel.send({"ask": what, "data": base64.b64encode(request).decode()})
        answer = channel.next_order()
        if "answer" not in answer:
            raise NativeSigningError(f"the {what} was refused")
        return base64.b64decode(answer["answer"])

    return sign_native(payload, ask)


def sign_native(payload: Mapping[str, Any], ask: Ask) -> dict[str, Any]:
    """Sign "path" into "out", which must not exist, and read the result back.

    Payload: "path", "out", "mime", "definition" (for the SDK), "created" (labels), "alg", "chain_pem", "tsa_url" or
    None, "anchors_pem", "ingredients" ([{"path", "mime", "json"}], whose own manifests are kept whole). Returns
    {"store": base64, "credentials": Credentials.to_dict()}. Raises NativeSigningError, OSError.
    """
    settings = closed_settings(payload["anchors_pem"])
    settings["builder"] = {"thumbnail": {"enabled": False}, "created_assertion_labels": list(payload["created"])}
    out = Path(payload["out"])
    try:
        with (
            closing(_Context(settings, lambda body: ask("time_stamp", body))) as context,
            c2pa.Signer.from_callback(
                lambda claim: ask("signature", claim),
                ALGORITHMS[payload["alg"]],
                payload["chain_pem"],
                payload["tsa_url"],
            ) as signer,
            c2pa.Builder(payload["definition"], context=context) as builder,
            Path(payload["path"]).open("rb") as source,
            out.open("x+b") as destination,
        ):
            for each in payload["ingredients"]:
                with Path(each["path"]).open("rb") as file:
                    builder.add_ingredient(each["json"], each["mime"], file)
            store = bytes(builder.sign(signer, payload["mime"], source, destination))
    except c2pa.C2paError as error:
        raise NativeSigningError(str(error)[:400]) from error
    found = read(out, payload["mime"], anchors_pem=payload["anchors_pem"])
    return {"store": base64.b64encode(store).decode(), "credentials": found.to_dict(raw=False)}


class _Request(ctypes.Structure):
    """C2paHttpRequest of the library's C interface."""

    _fields_ = [
        ("url", ctypes.c_char_p),
        ("method", ctypes.c_char_p),
        ("headers", ctypes.c_char_p),
        ("body", ctypes.POINTER(ctypes.c_ubyte)),
        ("body_len", ctypes.c_size_t),
    ]


class _Response(ctypes.Structure):
    """C2paHttpResponse; the library frees `body` with free(3)."""

    _fields_ = [
        ("status", ctypes.c_int32),
        ("body", ctypes.c_void_p),
        ("body_len", ctypes.c_size_t),
    ]


_RESOLVE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Request), ctypes.POINTER(_Response))


class _Context(c2pa.ContextProvider):  # type: ignore[misc]
    """A context of the library whose every HTTP request ends in `post`; a GET, which nothing of ours makes, fails."""

    def __init__(self, settings: Mapping[str, Any], post: Callable[[bytes], bytes]) -> None:
        self._library = binding._lib
        self._library.c2pa_http_resolver_create.restype = ctypes.c_void_p
        self._library.c2pa_http_resolver_create.argtypes = [ctypes.c_void_p, _RESOLVE]
        set_resolver = self._library.c2pa_context_builder_set_http_resolver
        set_resolver.argtypes = [ctypes.POINTER(binding.C2paContextBuilder), ctypes.c_void_p]
        self._resolve = _resolver(post)  # the library holds no reference of its own to it
        builder = self._library.c2pa_context_builder_new()
        with c2pa.Settings.from_dict(dict(settings)) as native:
            refused = self._library.c2pa_context_builder_set_settings(builder, native._c_settings)
        resolver = self._library.c2pa_http_resolver_create(None, self._resolve)
        refused = refused or not resolver or set_resolver(builder, resolver)
        self._handle = self._library.c2pa_context_builder_build(builder)
        if refused or not self._handle:
            self.close()
            raise NativeSigningError("the library did not take its settings")

    @property
    def is_valid(self) -> bool:
        """Whether it may be used."""
        return bool(self._handle)

    @property
    def execution_context(self) -> Any:
        """The library's pointer."""
        return self._handle

    def close(self) -> None:
        """Give it back to the library."""
        if self._handle:
            self._library.c2pa_free(ctypes.cast(self._handle, ctypes.c_void_p))
            self._handle = None


def _resolver(post: Callable[[bytes], bytes]) -> Any:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]

    @_RESOLVE
    def resolve(_: object, request: Any, response: Any) -> int:
        try:
            asked = request.contents
            if asked.method != b"POST" or not asked.body_len:
                return -1
            answer = post(ctypes.string_at(asked.body, asked.body_len))
            if not 0 < len(answer) <= MAX_ANSWER:
                return -1
            place = libc.malloc(len(answer))
            ctypes.memmove(place, answer, len(answer))
            response.contents.body, response.contents.body_len = place, len(answer)
            response.contents.status = 200
        except BaseException:  # no exception may cross the library's frames; what it was, the caller's `ask` knows
            return -1
        return 0

    return resolve
