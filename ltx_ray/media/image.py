"""First-frame images: any picture that PIL reads, upright, RGB, and exactly as large as the shot."""

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ltx_ray.errors import MediaError, RetryableError
from ltx_ray.media.access import TRUSTED, Access
from ltx_ray.media.source import open_bytes
from ltx_ray.redact import redacted

# Pictures as people have them; JPEG reads MPO too. Others start programs of their own (EPS) or read further
# files.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")

# EXIF orientations 5 to 8 turn the picture by a quarter, which swaps its sides.
_QUARTER_TURNS = (5, 6, 7, 8)


def probe_image(url: str, access: Access = TRUSTED) -> tuple[int, int]:
    """``(width, height)`` in pixels of an image as it is seen, that is after its EXIF orientation.

    Reads the header and PIL's checksums, not the pixels.
    Raises MediaError where the file is missing, no image, broken, or too large to be safe.
    """
    data = _read(url, access)
    with _opened(data, url, access) as image:
        image.verify()
    # verify() leaves an image unusable.
    with _opened(data, url, access) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS
        return (height, width) if turned else (width, height)


def read_image(url: str, width: int, height: int, access: Access = TRUSTED) -> NDArray[np.uint8]:
    """An image as uint8 RGB ``[height, width, 3]``.

    It is turned upright (EXIF), laid over black where it is transparent, scaled (Lanczos) to cover
    ``width`` x ``height`` pixels and cropped at the centre.
    Raises MediaError where the file is missing, no image, broken, or too large to be safe.
    """
    if width < 1 or height < 1:
        raise MediaError(f"an image must be read at a size of at least 1x1 pixels, got {width}x{height}")
    with _opened(_read(url, access), url, access) as image:
        return fit_image(image, width, height, redacted(url))


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


def _read(url: str, access: Access) -> bytes:
    with closing(open_bytes(url, access.of_images())) as file:
        try:
            return file.read()
        except OSError as error:
            text = f"reading {redacted(url)} failed: {error}; the store may answer next time"
            raise RetryableError(text) from error


@contextmanager
def _opened(data: bytes, url: str, access: Access) -> Iterator[Image.Image]:
    """The image in ``data``; whatever PIL trips over, also while it is used, is a MediaError."""
    limit = access.limits.max_image_pixels
    url = redacted(url)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > limit:
                raise MediaError(
                    f"{url} must have at most {limit:,} pixels (inputs.max_image_pixels of the config), got "
                    f"{image.width}x{image.height} (a decompression bomb?); scale it down"
                )
            yield image
    except (MediaError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"{url} must be an image of a safe size, got {error}; scale it down") from error
    except UnidentifiedImageError as error:  # PIL's own words name a place in memory
        raise MediaError(
            f"{url} must be a whole image such as PNG or JPEG, got data of another kind; save it as PNG"
        ) from error
    except Exception as error:  # what PIL's readers let through on broken files has no common base
        raise MediaError(f"{url} must be a whole image such as PNG or JPEG, got: {error}") from error
