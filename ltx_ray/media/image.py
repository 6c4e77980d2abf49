"""First-frame images: any picture that PIL reads, upright, RGB, and exactly as large as the shot."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from ltx_ray.errors import MediaError, RetryableError
from ltx_ray.media.source import open_bytes

# What PIL's readers let through on broken files.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
)

# EXIF orientations 5 to 8 turn the picture by a quarter, which swaps its sides.
_QUARTER_TURNS = (5, 6, 7, 8)


def probe_image(url: str) -> tuple[int, int]:
    """``(width, height)`` in pixels of an image as it is seen, that is after its EXIF orientation.

    Reads the header and PIL's checksums, not the pixels.
    Raises MediaError where the file is missing, no image, broken, or too large to be safe.
    """
    data = _read(url)
    with _opened(data, url) as image:
        image.verify()
    # verify() leaves an image unusable.
    with _opened(data, url) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS
        return (height, width) if turned else (width, height)


def read_image(url: str, width: int, height: int) -> NDArray[np.uint8]:
    """An image as uint8 RGB ``[height, width, 3]``.

    It is turned upright (EXIF), laid over black where it is transparent, scaled (Lanczos) to cover
    ``width`` x ``height`` pixels and cropped at the centre.
    Raises MediaError where the file is missing, no image, broken, or too large to be safe.
    """
    if width < 1 or height < 1:
        raise MediaError(f"an image must be read at a size of at least 1x1 pixels, got {width}x{height}")
    with _opened(_read(url), url) as image:
        return fit_image(image, width, height, url)


def fit_image(image: Image.Image, width: int, height: int, name: str = "the image") -> NDArray[np.uint8]:
    """An opened image as ``read_image`` makes it; ``name`` is for messages. Raises MediaError."""
    upright = _rgb(ImageOps.exif_transpose(image), name)
    covered = upright.resize(
        (width, height), Image.Resampling.LANCZOS, box=_centre(*upright.size, width, height)
    )
    return np.array(covered, np.uint8)


def _centre(from_width: int, from_height: int, width: int, height: int) -> tuple[float, float, float, float]:
    """The centred box (left, top, right, bottom) of a picture that has the wanted size's aspect."""
    scale = max(width / from_width, height / from_height)
    box_width = min(width / scale, from_width)
    box_height = min(height / scale, from_height)
    left = (from_width - box_width) / 2
    top = (from_height - box_height) / 2
    return left, top, left + box_width, top + box_height


def _rgb(image: Image.Image, url: str) -> Image.Image:
    if image.mode == "F":
        raise MediaError(f"{url} must have whole-number pixels, got floating point; save it as PNG or JPEG")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # PIL clips 16 bits at 255 instead of scaling them.
        wide = np.clip(np.asarray(image, np.int64), 0, 65535)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    over_black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    over_black.alpha_composite(image.convert("RGBA"))
    return over_black.convert("RGB")


def _read(url: str) -> bytes:
    with closing(open_bytes(url)) as file:
        try:
            return file.read()
        except OSError as error:
            raise RetryableError(f"reading {url} failed: {error}; the store may answer next time") from error


@contextmanager
def _opened(data: bytes, url: str) -> Iterator[Image.Image]:
    """The image in ``data``; whatever PIL trips over, also while it is used, is a MediaError."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            # PIL only warns from here on up to twice as many; a warning stops nobody.
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise MediaError(
                    f"{url} must have at most {limit} pixels, got {image.width}x{image.height} "
                    "(a decompression bomb?); scale it down"
                )
            yield image
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"{url} must be an image of a safe size, got {error}; scale it down") from error
    except _BROKEN as error:
        raise MediaError(f"{url} must be a whole image such as PNG or JPEG, got: {error}") from error
