"""The IPTC label: in the right place of every container, and under the signature."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from PIL import Image

from tests.watermark.provenance.conftest import write_video
from watermark.aigc import aigc_label
from watermark.iptc import AI_EDITED, IptcError, write_iptc, xmp_packet
from watermark.manifest import read, sign_file
from watermark.manifest_request import FORMATS

NAMESPACE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
XMP_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")


@pytest.fixture
def copy_of(plain_media, tmp_path):
    """A file of one format that may be written to."""

    def make(mime: str) -> Path:
        source = plain_media[mime]
        copy = tmp_path / source.name
        copy.write_bytes(source.read_bytes())
        return copy

    return make


def packets(path: Path, mime: str) -> list[bytes]:
    """The XMP packets of a file, as another program finds them."""
    if mime == "video/mp4":
        found, data, position = [], path.read_bytes(), 0
        while position < len(data):
            size, kind = struct.unpack_from(">I4s", data, position)
            if kind == b"uuid" and data[position + 8 : position + 24] == XMP_UUID:
                found.append(data[position + 24 : position + size])
            position += size
        return found
    if mime == "video/quicktime":
        with av.open(str(path), options={"export_xmp": "1"}) as container:
            return [container.metadata["xmp"].encode()] if "xmp" in container.metadata else []
    with Image.open(path) as picture:
        xmp = picture.info.get("xmp")
    return [xmp.encode() if isinstance(xmp, str) else xmp] if xmp else []


def source_type(packet: bytes) -> str:
    root = ElementTree.fromstring(packet.decode().split("?>", 1)[1].rsplit("<?xpacket", 1)[0])
    return "".join(element.text or "" for element in root.iter(NAMESPACE))


def frames(path: Path) -> list[np.ndarray]:
    if path.suffix not in (".mp4", ".mov"):
        with Image.open(path) as picture:
            return [np.asarray(picture.convert("RGB"))]
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("mime", FORMATS)
def test_the_label_is_found_by_another_program_and_the_pixels_stay(copy_of, mime):
    path = copy_of(mime)
    before = frames(path)
    assert packets(path, mime) == []
    write_iptc(path, mime)
    (packet,) = packets(path, mime)
    assert (
        source_type(packet)
        == AI_EDITED
        == ("http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia")
    )
    after = frames(path)
    assert len(after) == len(before)
    assert all(np.array_equal(new, old) for new, old in zip(after, before, strict=True))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("mime", FORMATS)
def test_writing_twice_leaves_one_packet(copy_of, mime):
    path = copy_of(mime)
    write_iptc(path, mime, "first&<value>")
    write_iptc(path, mime, "second")
    (packet,) = packets(path, mime)
    assert source_type(packet) == "second"
    assert path.read_bytes().count(b"first&amp;") == (1 if mime == "video/mp4" else 0)  # a freed box keeps its bytes
    assert frames(path)


@pytest.mark.parametrize("mime", FORMATS)
def test_a_labelled_file_is_signed_and_the_label_is_under_the_signature(
    copy_of, request_for, dev_authority, tmp_path, mime
):
    path = copy_of(mime)
    write_iptc(path, mime)
    signed = tmp_path / f"signed{path.suffix}"
    sign_file(path, signed, request_for(mime), dev_authority.signer(), anchors_pem=dev_authority.root_pem)
    (packet,) = packets(signed, mime)
    assert source_type(packet) == AI_EDITED
    other = b"digitalCapture".ljust(len(b"compositeWithTrainedAlgorithmicMedia"), b"_")
    tampered = signed.read_bytes().replace(b"compositeWithTrainedAlgorithmicMedia</", other + b"</", 1)
    assert tampered != signed.read_bytes()
    changed = read(tampered, mime, anchors_pem=dev_authority.root_pem)
    assert changed.state == "invalid"


@pytest.mark.parametrize("mime", FORMATS)
def test_chinas_label_lies_beside_it_as_one_json_under_the_signature(
    copy_of, request_for, dev_authority, tmp_path, mime
):
    path = copy_of(mime)
    write_iptc(path, mime, aigc=aigc_label("Häuser & <Söhne>", "00ff"))
    signed = tmp_path / f"signed{path.suffix}"
    sign_file(path, signed, request_for(mime), dev_authority.signer(), anchors_pem=dev_authority.root_pem)
    (packet,) = packets(signed, mime)
    assert source_type(packet) == AI_EDITED
    root = ElementTree.fromstring(packet.decode().split("?>", 1)[1].rsplit("<?xpacket", 1)[0])
    (found,) = root.iter("{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC")
    assert json.loads(found.text) == {
        "Label": "1",
        "ContentProducer": "Häuser & <Söhne>",
        "ProduceID": "00ff",
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    tampered = signed.read_bytes().replace(b'"ProduceID":"00ff"', b'"ProduceID":"00fe"', 1)
    assert read(tampered, mime, anchors_pem=dev_authority.root_pem).state == "invalid"


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("size", [(33, 17), (256, 129)])
def test_every_kind_of_webp_gets_an_extended_header_that_is_right(tmp_path, mode, lossless, size):
    path = tmp_path / "picture.webp"
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (size[1], size[0], len(mode)), np.uint8)
    Image.fromarray(pixels, mode).save(path, lossless=lossless)
    with Image.open(path) as picture:
        before = np.asarray(picture.convert("RGBA"))
    write_iptc(path, "image/webp")
    with Image.open(path) as picture:
        assert picture.size == size
        assert np.array_equal(np.asarray(picture.convert("RGBA")), before)
    data = path.read_bytes()
    assert data[12:16] == b"VP8X"
    assert data[20] & 0x04
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8


def test_a_jpeg_with_exif_keeps_it_before_the_label(copy_of):
    path = copy_of("image/jpeg")
    exif = Image.Exif()
    exif[0x0112] = 1
    with Image.open(path) as picture:
        picture.save(path, exif=exif)
    write_iptc(path, "image/jpeg")
    data = path.read_bytes()
    assert data.index(b"Exif\x00\x00") < data.index(b"http://ns.adobe.com/xap/1.0/\x00")


def boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    found, position = [], 0
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        found.append((kind, position, size or len(data) - position))
        position += size or len(data) - position
    return found


def test_a_last_box_of_open_length_is_closed_before_the_label_follows(astronaut, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, astronaut, index_first=False)
    data = bytearray(path.read_bytes())
    (moov,) = [box for box in boxes(bytes(data)) if box[0] == b"moov"]
    assert moov[1] + moov[2] == len(data)
    data[moov[1] : moov[1] + 4] = b"\x00\x00\x00\x00"  # "to the end of the file"
    path.write_bytes(data)
    before = frames(path)
    write_iptc(path, "video/mp4")
    written = boxes(path.read_bytes())
    assert [kind for kind, _, _ in written][-2:] == [b"moov", b"uuid"]
    assert len(frames(path)) == len(before)


@pytest.mark.parametrize("index_first", [True, False])
def test_a_film_plays_on_wherever_its_index_lies(astronaut, tmp_path, index_first):
    path = tmp_path / "clip.mov"
    write_video(path, astronaut, index_first=index_first)
    before = frames(path)
    kinds = [kind for kind, _, _ in boxes(path.read_bytes())]
    assert (kinds.index(b"moov") < kinds.index(b"mdat")) == index_first
    write_iptc(path, "video/quicktime")
    assert np.array_equal(frames(path), before)
    assert packets(path, "video/quicktime") == [xmp_packet()]


def test_a_still_with_a_packet_of_another_program_gets_ours_in_its_place(astronaut, tmp_path):
    path = tmp_path / "still.avif"
    exif = Image.Exif()
    exif[0x0110] = "a camera"
    Image.fromarray(astronaut).save(path, xmp=xmp_packet("other"), exif=exif)
    before = frames(path)
    write_iptc(path, "image/avif")
    assert packets(path, "image/avif") == [xmp_packet()]
    with Image.open(path) as picture:
        assert picture.getexif()[0x0110] == "a camera"
    assert np.array_equal(frames(path), before)


def test_no_offset_into_the_media_data_moves(copy_of):
    path = copy_of("video/mp4")
    before = path.read_bytes()
    write_iptc(path, "video/mp4")
    after = path.read_bytes()
    assert after[: len(before)] == before
    assert after[len(before) + 24 :] == xmp_packet()


# The picture data of a JPEG is not looked at here (decoding is the media child's work), so it is cut in its headers.
@pytest.mark.parametrize(
    ("mime", "share"),
    [(mime, share) for mime in FORMATS for share in (0.0, 0.01, 0.3) if (mime, share) != ("image/jpeg", 0.3)],
)
def test_a_cut_off_file_is_refused_and_left_as_it_was(copy_of, mime, share):
    path = copy_of(mime)
    data = path.read_bytes()[: int(path.stat().st_size * share)]
    path.write_bytes(data)
    with pytest.raises(IptcError) as caught:
        write_iptc(path, mime)
    assert caught.value.code == "iptc_malformed"
    assert path.read_bytes() == data
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_container_without_a_place_for_it_is_refused(tmp_path):
    path = tmp_path / "clip.mkv"
    path.write_bytes(b"anything")
    with pytest.raises(IptcError) as caught:
        write_iptc(path, "video/x-matroska")
    assert caught.value.code == "iptc_format"
