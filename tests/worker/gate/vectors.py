"""Files that say how they were made, each written here the way its program writes it; the pictures show nothing."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from watermark.aigc import aigc_label
from watermark.iptc import write_iptc, xmp_packet

Make = Callable[[Path], Path]

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
CAPTURE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
INFOTEXT = (
    "a portrait, soft light\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1234, Size: 512x512, Model hash: 6ce0161689"
)
COMFY = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1}}})
WORKFLOW = json.dumps({"last_node_id": 9, "last_link_id": 9, "nodes": [{"id": 1, "type": "KSampler"}]})
INVOKE = json.dumps({"generation_mode": "txt2img", "app_version": "4.2.0", "seed": 1})
NOVEL = json.dumps({"prompt": "x", "steps": 28, "sampler": "k_euler", "uc": "lowres", "signed_hash": "AA"})
DRAW = json.dumps({"c": "a portrait", "model": "sd", "sampler": "DPM++", "seed": 1, "v2": {"steps": 20}})
FOOOCUS = json.dumps({"base_model": "juggernaut", "version": "Fooocus v2.5.5", "steps": 30})
MIDJOURNEY = "a portrait --v 6.0 Job ID: 6d0e1c2f-2b7a-4c3a-9a3f-0123456789ab"
AIGC = aigc_label("example studio", "0123456789")

_MODEL, _MAKE, _SOFTWARE, _DESCRIPTION, _USER_COMMENT = 0x0110, 0x010F, 0x0131, 0x010E, 0x9286


def picture(side: int = 96) -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8))


def png(**texts: str) -> Make:
    """A PNG with text chunks; keys with other signs than a name may have are given by `png_texts`."""
    return png_texts(texts)


def png_texts(texts: dict[str, str], *, packed: bool = False, international: bool = False) -> Make:
    def make(folder: Path) -> Path:
        info = PngInfo()
        for key, text in texts.items():
            if international:
                info.add_itxt(key, text, zip=packed)
            else:
                info.add_text(key, text, zip=packed)
        path = folder / "vector.png"
        picture().save(path, pnginfo=info)
        return path

    return make


def with_exif(kind: str, tags: dict[int, str], comment: bytes = b"") -> Make:
    """JPEG, PNG, WebP or AVIF with EXIF fields; `comment` is the whole UserComment with its head."""

    def make(folder: Path) -> Path:
        fields = Image.Exif()
        for tag, text in tags.items():
            fields[tag] = text
        if comment:
            fields.get_ifd(0x8769)[_USER_COMMENT] = comment
        path = folder / f"vector.{kind}"
        picture().save(path, exif=fields.tobytes())
        return path

    return make


def with_xmp(mime: str, *, source_type: str = "", aigc: str = "", packet: str = "") -> Make:
    """A file of one of our own formats with a packet where `watermark.iptc` puts it."""
    suffix = {"image/jpeg": "jpg", "video/quicktime": "mov"}.get(mime, mime.split("/")[1])

    def make(folder: Path) -> Path:
        path = folder / f"vector.{suffix}"
        if mime.startswith("video/"):
            film(path)
        else:
            picture().save(path)
        write_iptc(path, mime, source_type or CAPTURE, aigc)
        if packet:  # of the same length, so that no box grows
            data = path.read_bytes()
            old = xmp_packet(source_type or CAPTURE, aigc)
            assert len(packet.encode()) <= len(old)
            assert old in data
            path.write_bytes(data.replace(old, packet.encode().ljust(len(old))))
        return path

    return make


def xmp_property(name: str, value: str, namespace: str) -> str:
    """The shortest packet with one property as an attribute, which most programs prefer."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:n="{namespace}" n:{name}="{value}"/></rdf:RDF></x:xmpmeta>'
    )


def film(path: Path, tags: dict[str, str] | None = None, *, free_keys: bool = False) -> Path:
    """Four frames; `tags` in the container, under keys of their own with `free_keys`."""
    options = {"movflags": "use_metadata_tags"} if free_keys else {}
    with av.open(str(path), "w", options=options) as out:
        stream: Any = out.add_stream("libx264" if path.suffix != ".webm" else "libvpx-vp9", rate=4)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        out.metadata.update(tags or {})
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * number, np.uint8), "rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    return path


def tagged_film(name: str, tags: dict[str, str], *, free_keys: bool = False) -> Make:
    return lambda folder: film(folder / name, tags, free_keys=free_keys)


def iim(dataset: int, text: str) -> Make:
    """A JPEG with one IPTC-IIM dataset in its Photoshop resource."""

    def make(folder: Path) -> Path:
        value = text.encode()
        record = b"\x1c\x02" + bytes([dataset]) + struct.pack(">H", len(value)) + value
        resource = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(record)) + record + b"\0" * (len(record) & 1)
        body = b"Photoshop 3.0\0" + resource
        return segment(folder, 0xED, body)

    return make


def segment(folder: Path, marker: int, *bodies: bytes) -> Path:
    """A JPEG with segments of its own after the first marker."""
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG")
    data = buffer.getvalue()
    extra = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for body in bodies)
    path = folder / "vector.jpg"
    path.write_bytes(data[:2] + extra + data[2:])
    return path


def split_xmp(packet: bytes) -> Make:
    """A JPEG whose packet lies in the extension (XMP part 3, 1.1.3.1), in two pieces."""

    def make(folder: Path) -> Path:
        head, guid = b"http://ns.adobe.com/xmp/extension/\0", b"0" * 32
        half = len(packet) // 2
        parts = [(0, packet[:half]), (half, packet[half:])]
        return segment(folder, 0xE1, *(head + guid + struct.pack(">II", len(packet), at) + data for at, data in parts))

    return make


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes) -> Make:
    """A PNG with chunks of any kind before its end."""

    def make(folder: Path) -> Path:
        buffer = io.BytesIO()
        picture().save(buffer, "PNG")
        data = buffer.getvalue()
        path = folder / "vector.png"
        path.write_bytes(data[:-12] + b"".join(chunks) + data[-12:])
        return path

    return make


EXIF_NS = "http://ns.adobe.com/exif/1.0/"
XAP_NS = "http://ns.adobe.com/xap/1.0/"
PS_NS = "http://ns.adobe.com/photoshop/1.0/"
DC_NS = "http://purl.org/dc/elements/1.1/"
FORMATS = ("image/jpeg", "image/png", "image/webp", "image/avif", "video/mp4", "video/quicktime")
_UNICODE = b"UNICODE\0"

# name -> (file, claim, what is named, the code of the policy)
VECTORS: dict[str, tuple[Make, str, str, str]] = {
    **{
        f"source type in {mime}": (
            with_xmp(mime, source_type=TRAINED), "source_type", "trainedAlgorithmicMedia", "declared_synthetic"
        )
        for mime in FORMATS
    },
    **{
        f"AIGC in {mime}": (with_xmp(mime, aigc=AIGC), "aigc", "declared", "declared_aigc")
        for mime in FORMATS
    },
    "AIGC may be": (
        with_xmp("image/png", aigc=AIGC.replace('"1"', '"2"', 1)), "aigc", "possible", "possible_aigc"
    ),
    "AIGC suspected": (
        with_xmp("image/jpeg", aigc=AIGC.replace('"1"', '"3"', 1)), "aigc", "suspected", "suspected_aigc"
    ),
    "AIGC without sense": (png(AIGC="yes"), "aigc", "unreadable", "unreadable_aigc"),
    "AIGC in MP4 metadata": (
        tagged_film("tag.mp4", {"AIGC": AIGC}, free_keys=True), "aigc", "declared", "declared_aigc"
    ),
    "AIGC in MOV metadata": (
        tagged_film("tag.mov", {"AIGC": AIGC}, free_keys=True), "aigc", "declared", "declared_aigc"
    ),
    "AIGC in Matroska": (tagged_film("tag.mkv", {"AIGC": AIGC}), "aigc", "declared", "declared_aigc"),
    "AIGC in EXIF": (
        with_exif("jpg", {}, b"ASCII\0\0\0" + json.dumps({"AIGC": json.loads(AIGC)}).encode()),
        "aigc", "declared", "declared_aigc",
    ),
    "source type as an attribute": (
        with_xmp("image/jpeg", packet=xmp_property(
            "DigitalSourceType", TRAINED, "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
        )), "source_type", "trainedAlgorithmicMedia", "declared_synthetic",
    ),
    "source type in extended XMP": (
        split_xmp(xmp_packet(TRAINED)), "source_type", "trainedAlgorithmicMedia", "declared_synthetic"
    ),
    "source type in IIM": (iim(40, TRAINED), "source_type", "trainedAlgorithmicMedia", "declared_synthetic"),
    "web UI": (png(parameters=INFOTEXT), "generator", "Stable Diffusion web UI", "declared_ai_generator"),
    "web UI packed": (
        png_texts({"parameters": INFOTEXT}, packed=True, international=True),
        "generator", "Stable Diffusion web UI", "declared_ai_generator",
    ),
    "web UI in JPEG": (
        with_exif("jpg", {}, _UNICODE + INFOTEXT.encode("utf-16-be")),
        "generator", "Stable Diffusion web UI", "declared_ai_generator",
    ),
    "web UI in WebP, the other byte order": (
        with_exif("webp", {}, _UNICODE + INFOTEXT.encode("utf-16-le")),
        "generator", "Stable Diffusion web UI", "declared_ai_generator",
    ),
    "web UI in AVIF": (
        with_exif("avif", {}, _UNICODE + INFOTEXT.encode("utf-16-be")),
        "generator", "Stable Diffusion web UI", "declared_ai_generator",
    ),
    "ComfyUI prompt": (png(prompt=COMFY), "generator", "ComfyUI", "declared_ai_generator"),
    "ComfyUI workflow": (png(workflow=WORKFLOW), "generator", "ComfyUI", "declared_ai_generator"),
    "ComfyUI WebP": (
        with_exif("webp", {_MODEL: f"prompt:{COMFY}", _MAKE: f"workflow:{WORKFLOW}"}),
        "generator", "ComfyUI", "declared_ai_generator",
    ),
    "ComfyUI MP4": (
        tagged_film("comfy.mp4", {"prompt": COMFY, "workflow": WORKFLOW}, free_keys=True),
        "generator", "ComfyUI", "declared_ai_generator",
    ),
    "InvokeAI": (png(invokeai_metadata=INVOKE), "generator", "InvokeAI", "declared_ai_generator"),
    "InvokeAI 2": (png_texts({"sd-metadata": INVOKE}), "generator", "InvokeAI", "declared_ai_generator"),
    "InvokeAI 1": (
        png(Dream='"a portrait" -s 50 -S 1234 -W 512 -H 512 -C 7.5 -A k_lms'),
        "generator", "InvokeAI", "declared_ai_generator",
    ),
    "NovelAI": (
        png(Title="NovelAI generated image", Software="NovelAI", Source="NovelAI Diffusion V4", Comment=NOVEL),
        "generator", "NovelAI", "declared_ai_generator",
    ),
    "NovelAI, Comment alone": (png(Comment=NOVEL), "generator", "NovelAI", "declared_ai_generator"),
    "Midjourney": (png(Description=MIDJOURNEY), "generator", "Midjourney", "declared_ai_generator"),
    "Midjourney XMP": (
        with_xmp("image/png", aigc=AIGC, packet=xmp_property("description", MIDJOURNEY, DC_NS)),
        "generator", "Midjourney", "declared_ai_generator",
    ),
    "Fooocus": (
        png(parameters=FOOOCUS, fooocus_scheme="fooocus"), "generator", "Fooocus", "declared_ai_generator"
    ),
    "Fooocus JPEG": (
        with_exif("jpg", {_SOFTWARE: "Fooocus v2.5.5"}, b"ASCII\0\0\0" + FOOOCUS.encode()),
        "generator", "Fooocus", "declared_ai_generator",
    ),
    "Draw Things": (
        with_xmp("image/png", aigc=AIGC, packet=xmp_property("UserComment", DRAW.replace('"', "&quot;"), EXIF_NS)),
        "generator", "Draw Things", "declared_ai_generator",
    ),
    "Firefly": (
        with_xmp("image/jpeg", packet=xmp_property("CreatorTool", "Adobe Firefly", XAP_NS)),
        "generator", "Adobe Firefly", "declared_ai_generator",
    ),
    "Imagen in IIM": (iim(110, "Made with Google AI"), "generator", "Google AI", "declared_ai_generator"),
    "Imagen in XMP": (
        with_xmp("image/webp", packet=xmp_property("Credit", "Edited with Google AI", PS_NS)),
        "generator", "Google AI", "declared_ai_generator",
    ),
    "DALL-E": (with_exif("jpg", {_SOFTWARE: "DALL-E 3"}), "generator", "DALL-E", "declared_ai_generator"),
    "description": (
        with_exif("jpg", {_DESCRIPTION: INFOTEXT}), "generator", "Stable Diffusion web UI", "declared_ai_generator"
    ),
    "FaceFusion": (
        tagged_film("fake.mp4", {"comment": "FaceFusion 3.5"}), "generator", "FaceFusion", "declared_ai_generator"
    ),
    "raw profile": (
        png_texts({"Raw profile type xmp": f"\nxmp\n{len(xmp_packet(TRAINED)):8}\n{xmp_packet(TRAINED).hex()}\n"}),
        "source_type", "trainedAlgorithmicMedia", "declared_synthetic",
    ),
}  # fmt: skip
