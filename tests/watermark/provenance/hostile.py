"""Files that name an address to be fetched while they are read, in every way we know of."""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from watermark import issuing
from watermark.credentials_reader import closed_settings
from watermark.iptc_boxes import boxes

TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def corpus(plain: dict[str, Path], folder: Path, address: str) -> dict[Path, str]:
    """Hostile files in `folder`, each with its media type; `address` is "host:port" of whoever would be asked."""
    jpeg = plain["image/jpeg"].read_bytes()
    files: dict[str, tuple[str, bytes]] = {}
    for mime, path in plain.items():
        if mime != "image/webp":  # the library cannot write a reference into it
            url = f"http://{address}/store.c2pa"
            files[f"remote{path.suffix}"] = (mime, _signed(path.read_bytes(), mime, remote=url))
    files["redirect.jpg"] = ("image/jpeg", _signed(jpeg, "image/jpeg", remote=f"http://{address}/redirect"))
    files["https.jpg"] = ("image/jpeg", _signed(jpeg, "image/jpeg", remote=f"https://{address}/store.c2pa"))
    files["file.jpg"] = ("image/jpeg", _signed(jpeg, "image/jpeg", remote="file:///etc/passwd"))
    files["ocsp.jpg"] = ("image/jpeg", _signed(jpeg, "image/jpeg", access=f"http://{address}/ocsp"))
    for name, did in (("did", f"did:web:{address.replace(':', '%3A')}"), ("did-name", "did:web:hostile.invalid")):
        files[f"{name}.jpg"] = ("image/jpeg", _signed(jpeg, "image/jpeg", extra=[_identity(did)]))
    files["ingredient.jpg"] = (
        "image/jpeg",
        _signed(jpeg, "image/jpeg", ingredient=files["remote.jpg"][1]),
    )
    files["elsewhere.mov"] = ("video/quicktime", _elsewhere(plain["video/quicktime"].read_bytes(), address))
    written = {}
    for name, (mime, data) in files.items():
        (folder / name).write_bytes(data)
        written[folder / name] = mime
    return written


def _signed(
    data: bytes,
    mime: str,
    *,
    remote: str = "",
    access: str = "",
    extra: list[dict[str, Any]] | None = None,
    ingredient: bytes = b"",
) -> bytes:
    root = issuing.issue_root()
    intermediate = issuing.issue_intermediate(root)
    leaf = _leaf_with_access(intermediate, access) if access else issuing.issue_leaf(intermediate)

    def sign(claim: bytes) -> bytes:
        r, s = decode_dss_signature(leaf.key.sign(claim, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    created = {"action": "c2pa.created", "digitalSourceType": TYPE}
    definition = {
        "claim_version": 2,
        "format": mime,
        "claim_generator_info": [{"name": "Hostile", "version": "1"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}, *(extra or [])],
    }
    chain = leaf.certificate_pem + intermediate.certificate_pem
    output = io.BytesIO()
    settings = closed_settings("")
    settings["builder"] = {"thumbnail": {"enabled": False}}
    with c2pa.Context.from_dict(settings) as context:
        signer = c2pa.Signer.from_callback(sign, c2pa.C2paSigningAlg.ES256, chain, None)
        builder = c2pa.Builder(definition, context=context)
        if remote:
            builder.set_no_embed()
            builder.set_remote_url(remote)
        if ingredient:
            said = {"title": "part", "relationship": "componentOf", "format": "image/jpeg"}
            builder.add_ingredient(said, "image/jpeg", io.BytesIO(ingredient))
        builder.sign(signer, mime, io.BytesIO(data), output)
    return output.getvalue()


def _leaf_with_access(parent: issuing.Issued, url: str) -> issuing.Issued:
    """A certificate that says where its OCSP responder is."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    place = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Hostile"), x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(parent.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityInformationAccess([place]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(parent.key.public_key()), critical=False)
        .sign(parent.key, hashes.SHA256())
    )
    return issuing.Issued(certificate, key)


def _identity(did: str) -> dict[str, Any]:
    """A CAWG identity assertion whose issuer is to be looked up (CAWG Identity 1.1 section 8.1)."""
    payload = {
        "referenced_assertions": [{"url": "self#jumbf=c2pa.assertions/c2pa.hash.data", "hash": "MQ=="}],
        "sig_type": "cawg.identity_claims_aggregation",
    }
    who = {
        "type": "cawg.social_media",
        "username": "x",
        "uri": "https://hostile.invalid/x",
        "verifiedAt": "2024-01-01T00:00:00Z",
        "provider": {"id": "https://hostile.invalid", "name": "x"},
    }
    credential = {
        "@context": ["https://www.w3.org/ns/credentials/v2", "https://cawg.io/identity/1.1/ica/context/"],
        "type": ["VerifiableCredential", "IdentityClaimsAggregationCredential"],
        "issuer": did,
        "validFrom": "2024-01-01T00:00:00Z",
        "credentialSubject": {"verifiedIdentities": [who], "c2paAsset": payload},
    }
    protected = b"\xa2\x01\x27\x03\x6eapplication/vc"  # EdDSA, a verifiable credential
    body = json.dumps(credential).encode()
    cose = b"\xd2\x84" + _bytes(protected) + b"\xa0" + _bytes(body) + _bytes(b"\x01" * 64)
    return {
        "label": "cawg.identity",
        "data": {**payload, "signer_payload": payload, "signature": list(cose), "pad1": [0] * 10},
    }


def _bytes(data: bytes) -> bytes:
    """A CBOR byte string."""
    return b"\x59" + struct.pack(">H", len(data)) + data


def _elsewhere(film: bytes, address: str) -> bytes:
    """A film whose index says that its pictures and sound lie at an address (ISO/IEC 14496-12 section 8.7.2)."""
    url = f"http://{address}/media.mov".encode() + b"\0"
    there = struct.pack(">I4sI", 12 + len(url), b"url ", 0) + url

    def rewritten(start: int, end: int) -> bytes:
        made = b""
        for each in boxes(film, start, end):
            content = film[each.body : each.end]
            if each.kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                content = rewritten(each.body, each.end)
            elif each.kind == b"dref":
                content = content[:8] + there
            made += struct.pack(">I4s", 8 + len(content), each.kind) + content
        return made

    found = rewritten(0, len(film))
    assert there in found
    return found
