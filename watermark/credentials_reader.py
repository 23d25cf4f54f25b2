"""The closed reader of Content Credentials, for files nobody vouches for.

It opens no socket (no remote manifest, no OCSP, no did:web), keeps no state between calls and makes its native objects
per call, so it works after a fork. Every text of a foreign manifest is cut to length and freed of control and direction
characters; it still must be escaped where it is shown.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import c2pa

from watermark.credentials import Credentials
from watermark.credentials_parsing import clean, credentials_of, listing, mapping

_REMOTE = re.compile(r"must fetch remote manifests from url (\S{1,2000})")
_MAX_RAW = 1 << 20


def closed_settings(anchors_pem: str) -> dict[str, Any]:
    """Settings of the SDK under which nothing is fetched: no remote manifest, no OCSP, no did:web, no host at all."""
    trust: dict[str, Any] = {
        # emailProtection, documentSigning, C2PA claim signing
        "trust_config": "1.3.6.1.5.5.7.3.4\n1.3.6.1.5.5.7.3.36\n1.3.6.1.4.1.62558.2.1"
    }
    if anchors_pem.strip():
        trust["trust_anchors"] = anchors_pem
    return {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "core": {
            "allowed_network_hosts": [],
            "decode_identity_assertions": False,
            "backing_store_memory_threshold_in_mb": 16,
        },
        "trust": trust,
    }


def read(
    source: Path | bytes | BinaryIO,
    mime: str,
    *,
    anchors_pem: str,
    trust_list_pem: str = "",
    tsa_anchors_pem: str = "",
    store: bytes | None = None,
    named_by_file: bool = False,
) -> Credentials:
    """Read and check the Content Credentials of a file; never raises for what the file holds.

    `anchors_pem` are our own roots: only they make `is_ours`. `trust_list_pem` adds the roots of others, whose
    signatures then count as trusted. `store` is a manifest store from our records, to be checked against a file that
    lost its own; with `named_by_file` it comes from the address the file names, and counts as the file's own.
    `tsa_anchors_pem` are the roots of time-stamp services, believed for times only. Raises OSError when the file cannot
    be read, c2pa.C2paError for anchors that are not PEM.
    """
    recovered = store is not None and not named_by_file

    def look(anchors: str, *, ours: bool) -> Credentials:
        return _read(source, mime, anchors, store, ours=ours, recovered=recovered)

    found = look(f"{anchors_pem}\n{tsa_anchors_pem}", ours=True)
    others = _without(tsa_anchors_pem, anchors_pem)
    if found.signature_trusted and others and look(others, ours=False).signature_trusted:
        # The SDK knows one list for signers and time stamps. Whoever is trusted through a time stamp's root alone, as
        # anybody with a certificate of the same public authority is, stays a stranger.
        own = look(anchors_pem, ours=True)
        found = found if own.signature_trusted else own
    if trust_list_pem.strip() and found.state in ("valid", "invalid") and not found.signature_trusted:
        found = look(f"{anchors_pem}\n{trust_list_pem}", ours=False)
    return found


def read_untrusted(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Entry for the media child: path, mime, anchors_pem, trust_list_pem and tsa_anchors_pem as in `read`.

    `store_path`: the manifest store that was fetched from the address the file names.
    """
    store = str(payload.get("store_path") or "")
    return read(
        Path(str(payload["path"])),
        str(payload["mime"]),
        anchors_pem=str(payload.get("anchors_pem", "")),
        trust_list_pem=str(payload.get("trust_list_pem", "")),
        tsa_anchors_pem=str(payload.get("tsa_anchors_pem", "")),
        store=Path(store).read_bytes() if store else None,
        named_by_file=bool(store),
    ).to_dict()


def store_entry(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Entry for the media child: "store" (a manifest store of our records, base64), anchors_pem and tsa_anchors_pem."""
    return read(
        base64.b64decode(str(payload["store"])),
        "application/c2pa",
        anchors_pem=str(payload["anchors_pem"]),
        tsa_anchors_pem=str(payload["tsa_anchors_pem"]),
    ).to_dict(raw=False)


def claim_entry(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Entry for the media child: {"store": base64} -> {"claim": `claim_of_store`}.

    A store of our own records may hold a stranger's manifest, so it is parsed where strangers' files are.
    """
    return {"claim": claim_of_store(base64.b64decode(str(payload["store"])))}


def claim_of_store(store: bytes) -> str:
    """`Credentials.claim_sha256` of a manifest store from our own records; "" when it is none.

    Both sides of the comparison are read by the same library, so a newer one does not turn our outputs into strangers.
    """
    try:
        with (
            c2pa.Context.from_dict(closed_settings("")) as context,
            c2pa.Reader("application/c2pa", io.BytesIO(store), context=context) as reader,
        ):
            return _claim_sha256(reader)
    except c2pa.C2paError:
        return ""


def _without(pem: str, known: str) -> str:
    """The certificates of `pem` that are not among those of `known`, PEM."""
    if not pem.strip():
        return ""
    from cryptography import x509  # most readings need none of it, and a media child starts for each of them
    from cryptography.hazmat.primitives.serialization import Encoding

    there = set(x509.load_pem_x509_certificates(known.encode())) if known.strip() else set()
    kept = [each for each in x509.load_pem_x509_certificates(pem.encode()) if each not in there]
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in kept)


def _read(
    source: Path | bytes | BinaryIO, mime: str, anchors: str, store: bytes | None, *, ours: bool, recovered: bool
) -> Credentials:
    context = c2pa.Context.from_dict(closed_settings(anchors))
    with _opened(source) as file, context:
        try:
            reader = c2pa.Reader(mime, file, manifest_data=store, context=context)
        except c2pa.C2paError as error:
            return _unreadable(error)
        with reader:
            try:
                text = reader.json()
                parsed = json.loads(text)
                if not isinstance(parsed, dict):
                    return Credentials("broken")
                found = credentials_of(parsed, keep_raw=len(text) <= _MAX_RAW, recovered=recovered, ours=ours)
                return replace(found, claim_sha256=_claim_sha256(reader)) if found.is_ours else found
            except (c2pa.C2paError, ValueError, RecursionError):
                return Credentials("broken")


def _claim_sha256(reader: c2pa.Reader) -> str:
    """SHA-256 (hex) over label, claim and serial number of the signer's certificate of the active manifest.

    The claim holds the hash of every assertion, so also that of the media bytes: nobody has it for another picture,
    and nobody but the holder of that certificate can sign it.
    """
    parsed = mapping(json.loads(reader.json()))
    label = parsed.get("active_manifest")
    for manifest in map(mapping, listing(mapping(json.loads(reader.crjson())).get("manifests"))):
        claim = mapping(manifest.get("claim.v2"))
        serial = mapping(mapping(manifest.get("signature")).get("certificateInfo")).get("serialNumber")
        if label and manifest.get("label") == label and claim and serial:
            return hashlib.sha256(json.dumps([label, claim, serial], sort_keys=True).encode()).hexdigest()
    return ""


@contextmanager
def _opened(source: Path | bytes | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    elif isinstance(source, bytes):
        yield io.BytesIO(source)
    else:
        source.seek(0)
        yield source


def _unreadable(error: c2pa.C2paError) -> Credentials:
    text = str(error)
    if isinstance(error, c2pa.C2paError.ManifestNotFound | c2pa.C2paError.NotSupported):
        return Credentials("none")
    if match := _REMOTE.search(text):
        return Credentials("remote_only", remote_url=clean(match[1], 2000))
    return Credentials("broken", failures=(clean(text.split(":", 1)[0], 80),))
