"""What a file says of its own making: AI source types, China's label, the chunks of picture generators, the camera.

Runs in the media child only (`read_entry`); `provenance` asks for it and never sees the file's words, but names from
the tables here. How each generator writes was read from its own source or documentation (named beside it).
What is not read: NovelAI's and others' "stealth" text in the lowest bits of the alpha channel; marks in the pixels of
other makers (SynthID, Stable Signature), which only these can read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from watermark.aigc import KEY as AIGC
from worker.gate.declared import metadata, metadata_fields
from worker.gate.declared.metadata import Block, Metadata
from worker.media.child import Channel

Claim = Literal["source_type", "aigc", "generator", "camera"]

_SOURCE_TYPE: Final = re.compile(r"digitalsourcetype/([A-Za-z]{3,60})")
_LABELS: Final = {"1": "declared", "2": "possible", "3": "suspected"}  # GB 45438-2025 annex E
_MOST_WORDS: Final = 1 << 16  # of one field that are looked at
_MOST_READ: Final = 4 << 20  # of all fields of a file
_MOST_FINDINGS: Final = 40

# Programs by the name they write into Software, CreatorTool, Credit and the like.
_PROGRAMS: Final = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ("Adobe Firefly", r"\badobe[ _]firefly\b"),
        ("DALL-E", r"\bDALL[·\-. ]?E\b"),
        ("OpenAI", r"\b(openai|chatgpt|gpt-image)\b"),
        ("Google AI", r"\b(made|edited) with google ai\b|\bgoogle (imagen|gemini)\b|\bimagen ?[234]\b"),
        ("Midjourney", r"\bmidjourney\b"),
        ("Stable Diffusion", r"\bstable[ \-_]?diffusion\b|\bAUTOMATIC1111\b|\bSDXL\b"),
        ("Stability AI", r"\bstability ?ai\b|\bdreamstudio\b"),
        ("ComfyUI", r"\bcomfyui\b"),
        ("InvokeAI", r"\binvoke ?ai\b"),
        ("NovelAI", r"\bnovelai\b"),
        ("Fooocus", r"\bfooocus\b"),
        ("Draw Things", r"\bdraw things\b"),
        ("SwarmUI", r"\bswarmui\b"),
        ("DiffusionBee", r"\bdiffusionbee\b"),
        ("Easy Diffusion", r"\beasy diffusion\b"),
        ("Ideogram", r"\bideogram(\.ai| ai)\b"),
        ("Leonardo.Ai", r"\bleonardo\.?ai\b"),
        ("FLUX", r"\bflux\.1\b|\bblack forest labs\b"),
        ("FaceFusion", r"\bfacefusion\b"),
        ("Microsoft Designer", r"\bmicrosoft designer\b|\bbing image creator\b"),
    )
)
_NAMING: Final = frozenset(
    {"software", "creatortool", "credit", "source", "originatingprogram", "make", "model", "generator", "encoder",
     "comment", "description", "imagedescription", "usercomment", "agent", "softwareagent", "artist",
     "\xa9too", "\xa9swr", "\xa9cmt", "com.apple.quicktime.software"}
)  # fmt: skip
"""Fields in which a program's name says what made the picture; a title or a keyword may name one by chance."""


@dataclass(frozen=True)
class Declaration:
    """One thing the file says. `name` is from our tables, `where` the kind of field, `detail` more for a reviewer."""

    claim: Claim
    name: str
    where: str
    detail: str = ""


def read_entry(payload: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Entry of the child: {"declarations", "unread", "blocks"} of the file in the first descriptor."""
    with os.fdopen(channel.fds[0], "rb", closefd=False) as file:
        found = metadata.collect(file, str(payload["container"]))
    declarations = list(dict.fromkeys(read(found)))[:_MOST_FINDINGS]
    kinds = sorted({block.where for block in found.blocks})
    return {"declarations": [asdict(each) for each in declarations], "unread": found.unread, "blocks": kinds}


def read(found: Metadata) -> Iterator[Declaration]:
    """Every declaration in these blocks; a block that is not well formed is noted in `found.unread`."""
    read = 0
    for block in found.blocks:
        lines: list[Declaration] = []
        with found.bearing_damage(block.where):
            for where, key, text in _fields(block):
                read += len(text)
                if read > _MOST_READ:
                    found.missed(where, "too_large")
                    return
                lines += _said(where, key, text[:_MOST_WORDS])
        yield from lines


def _fields(block: Block) -> Iterator[tuple[str, str, str]]:
    """(where, key, text) of a block."""
    match block.kind:
        case "xmp":
            for _, name, text in metadata_fields.xmp(block.data):
                yield "xmp", name, text
        case "exif":
            for name, text in metadata_fields.exif(block.data):
                yield "exif", name, text
        case "iim":
            for name, text in metadata_fields.iim(block.data):
                yield "iptc_iim", name, text
        case "text":
            yield block.where, block.key, block.data.decode("utf-8", "replace")


def _said(where: str, key: str, text: str) -> Iterator[Declaration]:
    for name in _SOURCE_TYPE.findall(text):
        yield Declaration("source_type", name, where)
    if key == "DigitalSourceType" and "/" not in text:  # the bare term, as some tools write it
        yield Declaration("source_type", text[:60], where)
    yield from _aigc(where, key, text)
    generator = _generator(key, text)
    if generator:
        yield Declaration("generator", generator, where, _plain(key))
    if where == "exif" and key in ("Make", "Model") and not generator and _plain(text):
        yield Declaration("camera", _plain(text), where, key)


def _aigc(where: str, key: str, text: str) -> Iterator[Declaration]:
    """China's label: JSON under a key that has AIGC in its name, or inside another JSON under that name."""
    named = AIGC in key.upper()
    if not (named or f'"{AIGC}"' in text):
        return
    value = _json(text)
    inner = value.get(AIGC, value) if isinstance(value, dict) else None
    if isinstance(inner, str):
        inner = _json(inner)
    if not isinstance(inner, dict):
        if named:
            yield Declaration("aigc", "unreadable", where)
        return
    label = _LABELS.get(str(inner.get("Label", "")).strip(), "unreadable")
    details = (f"{name} {_plain(str(inner[name]))}" for name in ("ContentProducer", "ProduceID") if inner.get(name))
    yield Declaration("aigc", label, where, ", ".join(details)[:160])


def _generator(key: str, text: str) -> str:
    """The program that made the picture, by the shape of what it leaves; "" for none."""
    low = key.lower()
    for name, keys, pattern in _SHAPES:
        if low in keys and pattern.search(text):
            return name
    return program_named(text) if low in _NAMING else ""


def program_named(text: str) -> str:
    """The picture generator that a field for a program's name names; "" for none."""
    return next((name for name, pattern in _PROGRAMS if pattern.search(text[:4096])), "")


_TEXTS: Final = frozenset({"parameters", "usercomment", "comment", "xpcomment", "imagedescription", "\xa9cmt"})
# (program, keys under which it writes in small letters, what the text looks like).
_SHAPES: Final[tuple[tuple[str, frozenset[str], re.Pattern[str]], ...]] = (
    # lllyasviel/Fooocus modules/private_logger.py, meta_parser.py: parameters (JSON) and fooocus_scheme
    ("Fooocus", frozenset({"fooocus_scheme"}), re.compile(r"^\s*(fooocus|a1111)")),
    ("Fooocus", _TEXTS, re.compile(r'"version"\s*:\s*"Fooocus|Version: Fooocus')),
    ("SwarmUI", _TEXTS, re.compile(r'"sui_image_params"')),
    # AUTOMATIC1111/stable-diffusion-webui modules/processing.py create_infotext; also Forge and SD.Next
    ("Stable Diffusion web UI", _TEXTS, re.compile(r"\bSteps: \d+,.{0,400}\b(Sampler|CFG scale|Seed): ", re.DOTALL)),
    # comfyanonymous/ComfyUI nodes.py SaveImage: prompt, workflow; WebP: EXIF Model "prompt:…", Make "workflow:…"
    ("ComfyUI", frozenset({"prompt", "model", "\xa9cmt", "comment", "usercomment"}), re.compile(r'"class_type"\s*:')),
    ("ComfyUI", frozenset({"workflow", "make", "comment", "imagedescription"}),
     re.compile(r'"last_node_id"\s*:|"nodes"\s*:\s*\[')),
    # invoke-ai/InvokeAI: invokeai_metadata, invokeai_workflow, invokeai_graph; before 3.0 sd-metadata and Dream
    ("InvokeAI", frozenset({"invokeai_metadata", "invokeai_workflow", "invokeai_graph", "sd-metadata"}),
     re.compile(r"^\s*\{")),
    ("InvokeAI", frozenset({"dream"}), re.compile(r"-s ?\d+.{0,400}-S ?\d+", re.DOTALL)),
    # NovelAI: Comment holds the parameters as JSON, Software and Source its name
    ("NovelAI", frozenset({"comment", "usercomment"}),
     re.compile(r'\A(?=.*"(uc|signed_hash|request_type)"\s*:)(?=.*"sampler"\s*:)', re.DOTALL)),
    # Midjourney: PNG Description and XMP "… Job ID: <uuid>"
    ("Midjourney", frozenset({"description", "imagedescription", "usercomment", "title"}),
     re.compile(r"\bJob ID: [0-9a-f]{8}-[0-9a-f]{4}-")),
    # Draw Things: XMP exif:UserComment with its parameters as JSON
    ("Draw Things", frozenset({"usercomment"}),
     re.compile(r'\A(?=.*"c"\s*:)(?=.*"sampler"\s*:)(?=.*"v2"\s*:)', re.DOTALL)),
)  # fmt: skip


def _json(text: str) -> Any:
    try:
        return json.loads(text.replace("&quot;", '"'))
    except ValueError:
        return None


def _plain(text: str) -> str:
    """Words for a record: letters, digits and a few signs, short."""
    return " ".join(re.sub(r"[^\w .,:;()+/\-]", " ", text).split())[:80]
