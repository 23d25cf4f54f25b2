"""Photos: whatever a phone or a scanner writes comes in as upright sRGB; whatever is broken is refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from worker.media import client, image
from worker.media.errors import MediaError

RED, GREEN, BLUE, WHITE = (200, 30, 40), (30, 180, 50), (40, 50, 210), (240, 240, 240)


def _quarters(width: int = 64, height: int = 48) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, WHITE
    return picture


def _close(pixel: np.ndarray, colour: tuple[int, ...], tolerance: int = 12) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= tolerance)


@pytest.mark.parametrize(
    ("form", "mime"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("AVIF", "image/avif")]
)
def test_a_photo_is_read_for_what_it_holds_whatever_its_name(tmp_path, form, mime):
    path = tmp_path / "renamed.mp4"
    Image.fromarray(_quarters()).save(path, form, quality=95)
    info = client.probe(path)
    assert (info.kind, info.mime, info.width, info.height) == ("photo", mime, 64, 48)
    assert info.size == path.stat().st_size
    assert len(info.sha256) == 64
    rgb = client.decode_image(path)
    assert rgb.dtype == np.uint8
    assert _close(rgb[5, 5], RED)
    assert _close(rgb[40, 60], WHITE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation):
    upright = _quarters()
    undo = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(undo)).save(path, exif=exif)
    assert np.array_equal(client.decode_image(path), upright)
    assert (client.probe(path).width, client.probe(path).height) == (64, 48)


def test_transparency_is_laid_over_white_and_said(tmp_path):
    rgba = np.dstack([_quarters(), np.full((48, 64), 255, np.uint8)])
    rgba[:24, :32, 3] = 0
    path = tmp_path / "clear.png"
    Image.fromarray(rgba).save(path)
    rgb = client.decode_image(path)
    assert _close(rgb[5, 5], (255, 255, 255), 0)
    assert _close(rgb[5, 60], GREEN, 0)
    assert "transparency_on_white" in client.probe(path).warnings


def test_sixteen_bits_are_reduced_by_value_not_cut(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (32, 1))).save(path)
    rgb = client.decode_image(path)
    assert np.abs(rgb[0, :, 0].astype(int) - np.arange(256)).max() <= 1
    assert "sixteen_bits_reduced" in client.probe(path).warnings


def test_a_palette_and_a_grey_photo_become_rgb(tmp_path):
    for mode in ("P", "L", "1"):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(_quarters()).convert(mode).save(path)
        assert client.decode_image(path).shape == (48, 64, 3)


def test_cmyk_is_converted(tmp_path):
    path = tmp_path / "print.jpg"
    Image.fromarray(_quarters()).convert("CMYK").save(path, quality=95)
    rgb = client.decode_image(path)
    assert _close(rgb[5, 5], RED, 20)
    assert _close(rgb[40, 5], BLUE, 20)


def test_a_colour_profile_is_converted_to_srgb(tmp_path):
    # A profile whose red and blue are exchanged cannot be mistaken for "ignored".
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {profile[at : at + 4]: at for at in range(132, 132 + 12 * struct.unpack(">I", profile[128:132])[0], 12)}
    swapped = bytearray(profile)
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    description = tags[b"desc"]
    offset, size = struct.unpack(">II", profile[description + 4 : description + 12])
    text = bytes(swapped[offset : offset + size])
    swapped[offset : offset + size] = text.replace("sRGB".encode("utf-16-be"), "BGRs".encode("utf-16-be")).replace(
        b"sRGB", b"BGRs"
    )
    path = tmp_path / "profile.png"
    Image.fromarray(_quarters()).save(path, icc_profile=bytes(swapped))
    rgb = client.decode_image(path)
    assert _close(rgb[5, 5], RED[::-1], 6)
    assert _close(rgb[40, 5], BLUE[::-1], 6)


def test_a_heic_photo_is_read(tmp_path, make_heic):
    path = make_heic(_quarters(128, 96))
    info = client.probe(path)
    assert (info.mime, info.width, info.height) == ("image/heic", 128, 96)
    rgb = client.decode_image(path)
    assert _close(rgb[10, 10], RED, 25)
    assert _close(rgb[80, 100], WHITE, 25)


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    row = zlib.compressobj(9)
    data = b"".join(row.compress(bytes(width * 3 + 1)) for _ in range(height)) + row.flush()
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_bomb_of_two_hundred_megapixels_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(20_000, 10_000))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(MediaError) as caught:
        client.probe(path)
    assert caught.value.code == "too_many_pixels"


def test_a_photo_file_beyond_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "big.jpg"
    with path.open("wb") as file:
        file.write(b"\xff\xd8\xff\xe0")
        file.truncate((200 << 20) + 1)
    with pytest.raises(MediaError) as caught:
        client.probe(path)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("part", [0.1, 0.6, 0.97])
def test_a_truncated_photo_is_refused(tmp_path, form, part):
    data = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(data, form)
    path = tmp_path / "cut"
    path.write_bytes(data.getvalue()[: int(len(data.getvalue()) * part)])
    for read in (client.probe, client.decode_image):
        with pytest.raises(MediaError) as caught:
            read(path)
        assert caught.value.code == "truncated"


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty.jpg", b"", "zero_length"),
        ("letter.txt", b"Dear Sir or Madam,", "not_media"),
        ("letter.jpg", b"Dear Sir or Madam,", "format_mismatch"),
        ("move.gif", b"GIF89a" + bytes(40), "format_unsupported"),
        ("scan.tif", b"II*\0" + bytes(40), "format_unsupported"),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-VERSION:3\n", "format_unsupported"),
        ("list.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", "format_unsupported"),
        ("page.webp", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format_mismatch"),
        ("new.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40), "truncated"),
    ],
)
def test_what_is_no_supported_media_is_refused_by_name(tmp_path, name, data, code):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(MediaError) as caught:
        client.probe(path)
    assert caught.value.code == code
    assert caught.value.message.endswith("Nothing was made of it, nothing else was changed.")
    assert caught.value.hint


@pytest.mark.parametrize("mime", ["image/jpeg", "image/png", "image/webp", "image/avif"])
def test_a_written_photo_carries_no_metadata_and_reads_back(tmp_path, mime):
    path = tmp_path / "out"
    image.write(_quarters(), path, mime, quality=95)
    with Image.open(path) as picture:
        assert not picture.getexif()
        assert not {"exif", "icc_profile", "comment", "xmp"} & set(picture.info)
    assert client.probe(path).mime == mime
    assert np.abs(client.decode_image(path).astype(int) - _quarters()).mean() < 3
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_photo_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    with pytest.raises(OSError, match=r"."):
        image.write(np.zeros((70_000, 16, 3), np.uint8), tmp_path / "out", "image/jpeg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_photo_whose_pixels_are_damaged_is_refused_and_not_half_decoded(tmp_path, form):
    noise = np.random.default_rng(2).integers(0, 256, (96, 96, 3), np.uint8)
    path = tmp_path / "damaged"
    Image.fromarray(noise).save(path, form)
    data = bytearray(path.read_bytes())
    if form != "PNG":  # the only one of the four that can tell changed bytes from others
        del data[len(data) // 2 :]
    else:
        data[len(data) // 3 : len(data) // 3 + 400] = bytes(400)
    path.write_bytes(bytes(data))
    for read in (client.probe, client.decode_image):
        with pytest.raises(MediaError) as caught:
            read(path)
        assert caught.value.code == "truncated"
