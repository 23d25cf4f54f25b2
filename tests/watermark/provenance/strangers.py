"""Somebody with a certificate of our own authority who is not us: what a leaf of a public authority would be."""

from __future__ import annotations

import io
from pathlib import Path

import c2pa
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from watermark import issuing
from watermark.credentials import CONSENT_LABEL
from watermark.credentials_reader import closed_settings


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
