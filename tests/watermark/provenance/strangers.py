"""Files signed by others: by somebody with a certificate of our own authority who is not us, and by other tools."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import c2pa
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from watermark import issuing
from watermark.credentials import CONSENT_LABEL, Credentials
from watermark.credentials_reader import closed_settings
from watermark.manifest_request import IngredientFile
from watermark.signers import DevelopmentAuthority
from worker.media import client

TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def foreign(
    data: bytes,
    authority: DevelopmentAuthority,
    source_type: str,
    title: str = "a stranger's title",
    *,
    mime: str = "image/jpeg",
    thumbnail: bool = True,
    **changes: Any,
) -> bytes:
    """A file signed by somebody else's tool; with the SDK's defaults it holds a thumbnail."""
    created = {"action": "c2pa.created", "digitalSourceType": f"{TYPE}{source_type}"}
    definition = {
        "claim_version": 2,
        "title": title,
        "format": mime,
        "claim_generator_info": [{"name": "Other tool", "version": "1"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
        **changes,
    }
    signer = authority.signer()
    output = io.BytesIO()
    settings = closed_settings("") | {"builder": {"thumbnail": {"enabled": thumbnail}}}
    with c2pa.Context.from_dict(settings) as context:
        native = c2pa.Signer.from_callback(signer.sign, c2pa.C2paSigningAlg.ES256, signer.chain_pem, None)
        c2pa.Builder(definition, context=context).sign(native, mime, io.BytesIO(data), output)
    return output.getvalue()


def inspected(path: Path, mime: str = "image/jpeg") -> IngredientFile:
    """An input as a job finishes with it: read in the media child before."""
    return IngredientFile(mime, Credentials.from_dict(client.read_credentials(path, mime, "")), path)


def signed_as_ours(jpeg: bytes, *, authority: Path, label: str) -> bytes:
    """The picture signed with a second leaf of the authority in that folder, under `label`, with our assertion."""
    intermediate = issuing.load_issued(
        (authority / "intermediate.pem").read_bytes(), (authority / "intermediate.key").read_bytes()
    )
    leaf = issuing.issue_leaf(intermediate)

    def sign(claim: bytes) -> bytes:
        r, s = decode_dss_signature(leaf.key.sign(claim, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    source_type = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    definition = {
        "claim_version": 2,
        "label": label,
        "format": "image/jpeg",
        "claim_generator_info": [{"name": "Imprimatur", "version": "0.1.0"}],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": source_type}]},
            },
            {"label": CONSENT_LABEL, "data": {"records": []}},
        ],
    }
    chain = leaf.certificate_pem + intermediate.certificate_pem
    output = io.BytesIO()
    with c2pa.Context.from_dict(closed_settings("")) as context:
        signer = c2pa.Signer.from_callback(sign, c2pa.C2paSigningAlg.ES256, chain, None)
        c2pa.Builder(definition, context=context).sign(signer, "image/jpeg", io.BytesIO(jpeg), output)
    return output.getvalue()
