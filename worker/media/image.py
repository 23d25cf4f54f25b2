"""Read and write photos. Runs inside the media child only: every byte that comes here is untrusted."""

from __future__ import annotations

import importlib
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from PIL import Image, ImageFile

from worker.media.child import Channel, Reply
from worker.media.errors import MediaError
from worker.media.types import MAX_PHOTO_PIXELS
from worker.media.wire import Pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Our own bound is checked on the header, before anything is decoded; Pillow's would only warn below twice its value.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False

_ORIENTATION: Final = 0x0112
_CLOCKWISE: Final = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}
_PLUGINS: Final = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "AVIF": "AvifImagePlugin",
}
_FORMATS: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/avif": "AVIF"}


def read(file: BinaryIO, container: str) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Decode a whole photo to uint8 [H, W, 3] sRGB, upright, and say what was done to get there.

    `container` is the one Pillow format that is tried ("JPEG", "PNG", "WEBP", "AVIF", "HEIF"). The EXIF orientation is
    applied, an embedded colour profile is converted to sRGB, transparency is laid over white, 16 bits become 8, and
    of an animation the first picture is taken. Returns the array and {"rotation", "warnings"}.
    Raises MediaError: `too_many_pixels`, `truncated`, `format_unsupported`.
    """
    import numpy as np

    picture, facts = _decode(file, container)
    return np.asarray(picture), facts


def _decode(file: BinaryIO, container: str) -> tuple[Image.Image, dict[str, Any]]:
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _open(file, container) as picture:
                if picture.width * picture.height > MAX_PHOTO_PIXELS:
                    raise MediaError("too_many_pixels", f"{picture.width}x{picture.height}")
                if getattr(picture, "n_frames", 1) > 1:
                    notes.append("animation_first_picture")
                picture.load()  # first: Pillow loads a PNG to look for EXIF, and a failure there would be passed over
                orientation = _orientation(picture)
                profile = picture.info.get("icc_profile")
                flat = _to_rgb(_upright(picture, orientation), profile, notes)
    except MediaError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's plug-ins raise a dozen types for damaged files; whatever a decoder raises, the file is at fault.
        raise MediaError("truncated", f"{type(error).__name__}: {error}") from error
    return flat, {"rotation": _CLOCKWISE.get(orientation, 0), "warnings": notes}


def write(rgb: NDArray[np.uint8], path: Path, mime: str, *, quality: int = 95) -> None:
    """Write uint8 [H, W, 3] sRGB as JPEG, PNG, WebP or AVIF without metadata; the file appears whole or not at all.

    `quality` (1 to 100) is for all but PNG. Raises OSError (ENOSPC when the disk is full).
    """
    form = _FORMATS[mime]
    options: dict[str, Any] = {"quality": quality}
    if form == "JPEG":
        options["subsampling"] = 0 if quality >= 90 else 2
    elif form == "PNG":
        options = {"compress_level": 3}
    elif form == "AVIF":
        options |= {"subsampling": "4:4:4" if quality >= 90 else "4:2:0", "speed": 7, "max_threads": 2}
    else:
        options["method"] = 4
    half = path.with_name(f".{path.name}.part")
    try:
        with half.open("wb") as file:
            Image.fromarray(rgb).save(file, form, **options)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def read_entry(payload: Mapping[str, Any], channel: Channel) -> Reply:
    """Entry of the child: decode the photo in the first passed descriptor; the array travels back beside its facts."""
    with os.fdopen(channel.fds[0], "rb", closefd=False) as file:
        picture, facts = _decode(file, payload["container"])
    facts |= {"width": picture.width, "height": picture.height}
    if not payload.get("pixels", True):
        return Reply(facts)
    return Reply(facts, [Pixels((picture.height, picture.width, 3), picture.tobytes())])


def _open(file: BinaryIO, container: str) -> Image.Image:
    """As Pillow's own `open` with one format, which imports the readers of all others first: half of a child's time."""
    if container == "HEIF":
        import pi_heif

        pi_heif.register_heif_opener()
    else:
        importlib.import_module(f"PIL.{_PLUGINS[container]}")
    factory, accept = Image.OPEN[container]
    prefix = file.read(16)
    file.seek(0)
    if accept is not None and accept(prefix) is not True:
        raise MediaError("truncated", f"{container} does not begin so")
    return factory(file, "")


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    if orientation == 1:
        return picture
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture) or picture


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except (ValueError, TypeError, SyntaxError, OSError, KeyError):
        return 1


def _to_rgb(picture: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        import numpy as np

        values = np.asarray(picture)
        picture = Image.fromarray((np.clip(values, 0, 65535) / 257 + 0.5).astype(np.uint8))
        notes.append("sixteen_bits_reduced")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").histogram()[255] < picture.width * picture.height:
            notes.append("transparency_on_white")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture).convert("RGB")
    if profile and picture.mode in ("RGB", "L", "CMYK"):
        from PIL import ImageCms

        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" not in ImageCms.getProfileDescription(source):
                done = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if done is not None:
                    picture = done
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("colour_profile_ignored")
    return picture.convert("RGB")
