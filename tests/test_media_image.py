"""Promise: a first-frame image comes upright, in RGB, at the shot's size, or is refused with a reason."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltx_ray.config import InputsConfig
from ltx_ray.errors import MediaError
from ltx_ray.media.access import Access
from ltx_ray.media.image import probe_image, read_image

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


def quarters(width: int = 80, height: int = 40) -> Image.Image:
    """Red and green above, blue and grey below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = GREY
    return Image.fromarray(pixels)


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in pixels[y, x]) for y in (2, -3) for x in (2, -3)]


# Where EXIF says the stored picture's edges belong; see the TIFF 6.0 specification, tag Orientation.
UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", list(UPRIGHT))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_is_applied_to_pixels_and_probed_size(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    """The camera stored the upright picture turned; whoever reads it sees it upright again."""
    turn = UPRIGHT[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, quality=100, subsampling=0)
    assert probe_image(str(path)) == (80, 40)
    seen = corners(read_image(str(path), 80, 40))
    for got, wanted in zip(seen, [RED, GREEN, BLUE, GREY], strict=True):
        assert np.abs(np.subtract(got, wanted)).max() <= 3


def test_image_covers_the_frame_and_is_cropped_at_the_centre(tmp_path: Path) -> None:
    stripes = np.zeros((90, 300, 3), np.uint8)
    stripes[:, :100], stripes[:, 100:200], stripes[:, 200:] = RED, GREEN, BLUE
    path = str(tmp_path / "wide.png")
    Image.fromarray(stripes).save(path)
    square = read_image(path, 60, 60)
    assert square.shape == (60, 60, 3)
    assert square.dtype == np.uint8
    assert (square == GREEN).all()
    tall = read_image(path, 64, 640)
    assert tall.shape == (640, 64, 3)
    assert (tall == GREEN).all()
    wide = read_image(path, 600, 90)
    assert wide[45, 3, 0] == 255
    assert wide[45, -3, 2] == 255


def test_same_size_is_left_as_it_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    path = str(tmp_path / "a.png")
    Image.fromarray(noise).save(path)
    assert np.array_equal(read_image(path, 64, 48), noise)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA", "RGBA", "I;16", "I"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, mode: str) -> None:
    white = np.zeros((32, 32), np.uint8)
    white[:, 16:] = 255
    if mode.startswith("I"):
        wide = white.astype(np.uint16) * 257
        image = Image.fromarray(wide if mode == "I;16" else wide.astype(np.int32))
    else:
        image = Image.fromarray(white).convert("RGB").convert(mode)
    path = tmp_path / "a.tif"
    image.save(path)
    with Image.open(path) as stored:
        assert stored.mode == mode
    pixels = read_image(str(path), 32, 32)
    assert pixels.shape == (32, 32, 3)
    assert (pixels[:, :16] == 0).all()
    assert (pixels[:, 16:] == 255).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)).save(path)
    assert (read_image(path, 8, 8) == 128).all()


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    half = np.full((8, 8, 4), 255, np.uint8)
    half[..., 3] = 128
    half[:4, :, 3] = 0
    path = str(tmp_path / "a.png")
    Image.fromarray(half).save(path)
    pixels = read_image(path, 8, 8)
    assert (pixels[:4] == 0).all()
    assert (pixels[4:] == 128).all()

    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.save(path, transparency=1)
    assert (read_image(path, 8, 8) == 0).all()


def test_wrong_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    quarters().save(tmp_path / "whole.png")
    data = bytearray((tmp_path / "whole.png").read_bytes())
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "flipped.png").write_bytes(data)
    for name in ("missing.png", "", "text.png", "empty.png", "cut.png", "flipped.png"):
        url = str(tmp_path / name)
        with pytest.raises(MediaError, match=url):
            probe_image(url)
        with pytest.raises(MediaError, match=url):
            read_image(url, 32, 32)


def test_a_jpeg_cut_short_is_refused_when_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(MediaError, match="truncated"):
        read_image(str(path), 32, 32)


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,200 pixels, beyond our own limit, and beyond that from which PIL raises its own error."""
    path = str(tmp_path / "a.png")
    quarters().save(path)
    small = Access.of_rows(str(tmp_path), InputsConfig(max_image_pixels=2_000))
    for read in (lambda: probe_image(path, small), lambda: read_image(path, 32, 32, small)):
        with pytest.raises(MediaError, match="decompression bomb"):
            read()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    for read in (lambda: probe_image(path), lambda: read_image(path, 32, 32)):
        with pytest.raises(MediaError, match="decompression bomb"):
            read()


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match="floating point"):
        read_image(str(tmp_path / "a.tif"), 8, 8)
