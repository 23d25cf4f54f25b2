"""The native half of signing, made to run in a media child that has no key and no network.

The C2PA library parses what it is given: the media file, and manifests of strangers that an input carried. Neither may
happen beside the keys (DESIGN.md decision 4). So the whole of it runs where `sign_entry` is called, and asks its caller
for the two things it cannot have: a signature over the claim, and the answer of a time-stamp service. A child that was
taken over could have one wrong claim signed, no more: the caller answers one signature per call, asks the time-stamp
service of its own configuration only, and has the finished file read again in another child.

The library (0.91) fetches time stamps through sockets of its own, without a limit in time or size, and turns every
failure into the same few words. So it signs without, and the stamp is put where it would have put it, see
`stamping.stamped`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import c2pa
from rfc3161_client import decode_timestamp_response

from watermark import stamping
from watermark.credentials_reader import closed_settings, read
from watermark.store_places import StorePlacesError, write_into_store

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
MAX_STORE = 512 << 10
"""Bytes of the whole manifest store; what is larger would be an input's doing, and our records keep it for good."""

Ask = Callable[[str, bytes], bytes]
"""`ask("signature" | "time_stamp", request) -> answer`; raises when there is none."""


SIGNING_FAILED, STAMP_REFUSED = "manifest_signing", "time_stamp_refused"


class NativeSigningError(Exception):
    """Nothing was signed: `code` SIGNING_FAILED, or STAMP_REFUSED when the time stamp is none of this signature.

    The message quotes the library and is for the operator.
    """

    def __init__(self, message: str, code: str = SIGNING_FAILED) -> None:
        super().__init__(message)
        self.code = code
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

    Payload: "path", "out", "mime", "definition" (for the SDK), "created" (labels of assertions that we vouch for),
    "alg", "chain_pem", "time_stamp" (whether to ask for one), "anchors_pem", "tsa_anchors_pem", "ingredients"
    ([{"path", "mime", "json"}], whose own manifests are kept whole). Returns {"store": base64, "credentials":
    Credentials.to_dict()}. Raises NativeSigningError, OSError.
    """
    settings = closed_settings(payload["anchors_pem"])
    settings["builder"] = {"thumbnail": {"enabled": False}, "created_assertion_labels": list(payload["created"])}
    out = Path(payload["out"])
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Signer.from_callback(
                lambda claim: ask("signature", claim),
                ALGORITHMS[payload["alg"]],
                payload["chain_pem"],
                None,
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
    if len(store) > MAX_STORE:
        raise NativeSigningError(f"the manifest would be {len(store) >> 10} KiB: an input carries one of odd size")
    if payload["time_stamp"]:
        store = _time_stamp(out, payload["mime"], store, ask)
        if not _stamp_holds(out, payload["mime"]):
            words = "the answer of the time-stamp service is not a time stamp of this signature"
            raise NativeSigningError(words, STAMP_REFUSED)
    found = read(out, payload["mime"], anchors_pem=payload["anchors_pem"], tsa_anchors_pem=payload["tsa_anchors_pem"])
    return {"store": base64.b64encode(store).decode(), "credentials": found.to_dict(raw=False)}


def _time_stamp(out: Path, mime: str, store: bytes, ask: Ask) -> bytes:
    """Put a time stamp into the file's signature; returns the store with it."""
    try:
        place = stamping.find_signature(store)
        reply = ask("time_stamp", stamping.query_for(store, place))
        stamped = stamping.stamped(store, place, decode_timestamp_response(reply).time_stamp_token())
        with out.open("r+b") as file:
            write_into_store(file, mime, store, stamped)
            file.flush()
            os.fsync(file.fileno())
    except stamping.StampTooLongError as error:
        raise NativeSigningError(str(error), STAMP_REFUSED) from error
    except (StorePlacesError, stamping.StampingError) as error:
        raise NativeSigningError(str(error)) from error
    return stamped


def _stamp_holds(out: Path, mime: str) -> bool:
    """Whether the active manifest's own time stamp is one of its signature; an ingredient's does not count."""
    with (
        c2pa.Context.from_dict(closed_settings("")) as context,
        out.open("rb") as file,
        c2pa.Reader(mime, file, context=context) as reader,
    ):
        success = (reader.get_validation_results() or {}).get("activeManifest", {}).get("success", [])
    return any(each.get("code") == "timeStamp.validated" for each in success)
