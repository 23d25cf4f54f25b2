"""China's metadata label: one JSON under the name AIGC (GB 45438-2025 annex E; practice guide TC260-PG-20258A)."""

from __future__ import annotations

import json

NAMESPACE = "http://www.tc260.org.cn/ns/AIGC/1.0/"
KEY = "AIGC"
IS_SYNTHESISED = "1"  # "2" is "may be", "3" is "suspected"


def aigc_label(producer: str, produce_id: str) -> str:
    """The label of an output: who made it (name or code, as registered) and its opaque id there.

    The propagator's fields are those of whoever spreads it; the reserved codes stay empty, the signature over the file
    says more.
    """
    return json.dumps(
        {
            "Label": IS_SYNTHESISED,
            "ContentProducer": producer,
            "ProduceID": produce_id,
            "ReservedCode1": "",
            "ContentPropagator": "",
            "PropagateID": "",
            "ReservedCode2": "",
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )
