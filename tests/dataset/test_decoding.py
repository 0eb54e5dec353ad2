from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from rasengan_xl.dataset.decoding import decode_picture, find_fault
from rasengan_xl.errors import DatasetError


def save(image: Image.Image, file_format: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def test_a_picture_is_turned_upright():
    image = Image.new("RGB", (8, 4), "red")
    image.paste("blue", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode_picture(save(image, "PNG", exif=exif), "a.png")
    assert upright.size == (4, 8)
    assert upright.getpixel((0, 0)) == (0, 0, 255)
    assert upright.getpixel((0, 7)) == (255, 0, 0)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_over_white(file_format: str):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (0, 0, 0, 255))
    image.putpixel((2, 2), (255, 0, 0, 128))
    options = {"lossless": True} if file_format == "WEBP" else {}
    decoded = decode_picture(save(image, file_format, **options), "a")
    assert decoded.mode == "RGB"
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.getpixel((1, 1)) == (0, 0, 0)
    assert decoded.getpixel((2, 2)) == (255, 127, 127)


def test_grey_with_transparency_lies_over_white():
    decoded = decode_picture(save(Image.new("LA", (4, 4), (0, 0)), "PNG"), "a.png")
    assert decoded.getpixel((0, 0)) == (255, 255, 255)


def test_a_transparent_palette_colour_is_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 0, 255, 0])
    image.putpixel((1, 1), 1)
    for file_format in ("PNG", "GIF"):
        decoded = decode_picture(save(image, file_format, transparency=0), "a")
        assert decoded.getpixel((0, 0)) == (255, 255, 255)
        assert decoded.getpixel((1, 1)) == (0, 255, 0)


@pytest.mark.parametrize(("mode", "dark"), [("1", 0), ("L", 0), ("RGB", (0, 0, 0))])
def test_a_colour_declared_transparent_is_white(mode: str, dark: int | tuple[int, ...]):
    decoded = decode_picture(save(Image.new(mode, (4, 4)), "PNG", transparency=dark), "a.png")
    assert decoded.getpixel((0, 0)) == (255, 255, 255)


def test_palette_grey_and_cmyk_become_rgb():
    palette = Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4)
    assert decode_picture(save(palette, "PNG"), "a").getpixel((0, 0)) == (10, 200, 30)
    grey = Image.new("L", (4, 4), 77)
    assert decode_picture(save(grey, "PNG"), "a").getpixel((0, 0)) == (77, 77, 77)
    ink = decode_picture(save(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"), "a")
    assert ink.mode == "RGB"
    red, green, blue = ink.getpixel((4, 4))
    assert red < 20
    assert min(green, blue) > 235


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_tones(file_format: str):
    tones = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    decoded = decode_picture(save(Image.fromarray(tones), file_format), "a")
    assert [decoded.getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = save(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_picture(content, "a.gif").getpixel((0, 0)) == (255, 0, 0)


def test_pixels_without_a_range_are_refused():
    content = save(Image.new("F", (4, 4)), "TIFF")
    with pytest.raises(DatasetError, match=r"a\.tif: .*8 bits per channel"):
        decode_picture(content, "a.tif")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_refused_by_its_header(content: bytes):
    fault = find_fault(content, "a.png")
    assert fault == "a.png: not a readable picture (not a known image format): remove or repair it"
    with pytest.raises(DatasetError, match="not a known image format"):
        decode_picture(content, "a.png")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_cut_short_is_refused(file_format: str):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = save(Image.fromarray(noise), file_format)
    with pytest.raises(DatasetError, match="a: not a readable picture"):
        decode_picture(content[: len(content) // 2], "a")


def test_formats_that_run_other_programs_are_refused(encode):
    postscript = save(Image.new("RGB", (4, 4)), "EPS")
    assert find_fault(postscript, "a.eps")
    assert find_fault(encode("red"), "a.png") is None
