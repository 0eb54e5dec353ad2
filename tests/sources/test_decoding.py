import random
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from rasengan_xl.errors import DatasetError
from rasengan_xl.sources.decoding import decode_picture, inspect_picture


def save(image: Image.Image, file_format: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def deep_png(samples: np.ndarray, colour_type: int, transparent: bytes = b"") -> bytes:
    """Encode 16-bit samples [height, width, channels] as PNG, which Pillow itself cannot."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(file_format: str, orientation: int):
    scene = np.zeros((16, 32, 3), dtype=np.uint8)
    scene[:, :16], scene[:8, 16:], scene[8:, 16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    # How the camera stores the scene, by the definition of each value.
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: np.rot90(scene),
        7: scene[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(scene, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    content = save(image, file_format, exif=exif)
    upright = np.asarray(decode_picture(content, "a"))
    assert upright.shape == scene.shape
    assert np.abs(upright.astype(int) - scene)[2:6, 4:12].max() < 60
    assert np.abs(upright.astype(int) - scene)[2:6, 20:28].max() < 60
    assert np.abs(upright.astype(int) - scene)[10:14, 20:28].max() < 60
    facts = inspect_picture(content, "a")
    assert (facts.width, facts.height) == (32, 16)


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


def test_what_is_transparent_shows_the_chosen_background():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 128))
    shown = decode_picture(save(image, "PNG"), "a.png", background="#0000ff")
    assert shown.getpixel((0, 0)) == (0, 0, 255)
    assert shown.getpixel((1, 0)) == (128, 0, 127)
    grey = save(Image.new("LA", (2, 2), (0, 0)), "PNG")
    assert decode_picture(grey, "a.png", background="lime").getpixel((0, 0)) == (0, 255, 0)


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


def test_one_bit_and_lab_become_rgb():
    ink = Image.new("1", (4, 4), 1)
    ink.putpixel((0, 0), 0)
    decoded = decode_picture(save(ink, "PNG"), "a")
    assert (decoded.getpixel((0, 0)), decoded.getpixel((1, 1))) == ((0, 0, 0), (255, 255, 255))
    lab = save(Image.new("RGB", (4, 4), (200, 40, 90)).convert("LAB"), "TIFF")
    assert decode_picture(lab, "a").getpixel((0, 0)) == pytest.approx((200, 40, 90), abs=3)
    assert inspect_picture(lab, "a").notes == ()


@pytest.mark.parametrize(("ink", "seen"), [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0)])
def test_ink_in_jpeg_and_tiff_is_not_inverted(ink: tuple[int, ...], seen: int):
    for file_format in ("JPEG", "TIFF"):
        content = save(Image.new("CMYK", (8, 8), ink), file_format)
        # Photoshop and Pillow mark such files, and store ink inverted in them.
        assert (b"Adobe" in content) == (file_format == "JPEG")
        assert decode_picture(content, "a").getpixel((4, 4)) == pytest.approx((seen,) * 3, abs=3)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_tones(file_format: str):
    tones = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    decoded = decode_picture(save(Image.fromarray(tones), file_format), "a")
    assert [decoded.getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def test_sixteen_bit_png_keeps_tones_colours_and_transparency():
    tones = np.array([[[0, 257, 32896], [65535, 300, 33000]]], dtype=np.uint16)
    colours = decode_picture(deep_png(tones, 2), "a")
    assert np.abs(np.asarray(colours) - tones / 257).max() <= 1
    opacity = np.array([[[0], [65535]]], dtype=np.uint16)
    shown = decode_picture(deep_png(np.concatenate([tones, opacity], axis=2), 6), "a")
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    assert shown.getpixel((1, 0)) == colours.getpixel((1, 0))
    grey = decode_picture(deep_png(tones[..., :1], 0, struct.pack(">H", 0)), "a", "red")
    assert [grey.getpixel((x, 0)) for x in range(2)] == [(255, 0, 0), (255, 255, 255)]
    both = np.array([[[65535, 0], [32896, 65535]]], dtype=np.uint16)
    faded = decode_picture(deep_png(both, 4), "a", "red")
    assert [faded.getpixel((x, 0)) for x in range(2)] == [(255, 0, 0), (128, 128, 128)]


def test_sixteen_bit_pgm_keeps_its_tones():
    content = b"P5 3 1 65535\n" + np.array([0, 32896, 65535], dtype=">u2").tobytes()
    decoded = decode_picture(content, "a.pgm")
    assert [decoded.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame_and_is_known(file_format: str):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = save(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert decode_picture(content, "a").getpixel((0, 0)) == pytest.approx((255, 0, 0), abs=3)
    assert inspect_picture(content, "a").animated
    assert not inspect_picture(save(frames[0], file_format), "a").animated


def swapped_profile() -> bytes:
    """Make an RGB profile in which red means green, by exchanging the tags of two primaries."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def test_a_colour_profile_is_converted_to_srgb():
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    for file_format in ("PNG", "TIFF"):
        content = save(red, file_format, icc_profile=swapped_profile())
        assert decode_picture(content, "a").getpixel((0, 0)) == pytest.approx((0, 255, 0), abs=2)
        assert inspect_picture(content, "a").notes == ()
    glass = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    glass.putpixel((0, 0), (255, 0, 0, 0))
    shown = decode_picture(save(glass, "PNG", icc_profile=swapped_profile()), "a", "blue")
    assert shown.getpixel((0, 0)) == (0, 0, 255)  # the background is sRGB already
    assert shown.getpixel((1, 0)) == pytest.approx((0, 255, 0), abs=2)
    palette = red.quantize(2)
    content = save(palette, "PNG", icc_profile=swapped_profile())
    assert decode_picture(content, "a").getpixel((0, 0)) == pytest.approx((0, 255, 0), abs=2)


def test_an_srgb_profile_changes_nothing_also_on_grey():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for pixels in (colours, colours[..., 0]):
        image = Image.fromarray(pixels)
        content = save(image, "PNG", icc_profile=profile)
        decoded = np.asarray(decode_picture(content, "a")).astype(int)
        assert np.abs(decoded - np.asarray(image.convert("RGB"))).max() <= 1
        assert inspect_picture(content, "a").notes == ()


def test_an_unusable_profile_is_told_and_pixels_are_taken_as_srgb():
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    profiles = {"no profile": b"nonsense", "profile for RGB": swapped_profile()}
    for content in (
        save(Image.new("RGB", (4, 4), "red"), "PNG", icc_profile=profiles["no profile"]),
        save(ink, "TIFF", icc_profile=profiles["profile for RGB"]),
    ):
        assert inspect_picture(content, "a").notes == ("unusable colour profile: taken as sRGB",)
        red, _, blue = decode_picture(content, "a").getpixel((0, 0))
        assert {red, blue} == {0, 255}


def test_a_picture_is_described_by_its_look():
    scene = np.zeros((40, 60, 3), dtype=np.uint8)
    scene[:, 30:] = 200
    facts = inspect_picture(save(Image.fromarray(scene), "PNG"), "a")
    assert (facts.width, facts.height, facts.animated) == (60, 40, False)
    assert len(facts.look) == 32
    assert any(facts.look)
    assert facts.look == inspect_picture(save(Image.fromarray(scene), "WEBP"), "a").look


def test_a_file_that_unpacks_to_too_many_pixels_is_refused_in_one_line():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    bomb += struct.pack(">I", zlib.crc32(b"IHDR" + header)) + struct.pack(">I", 0) + b"IDAT"
    with pytest.raises(DatasetError, match=r"^a: .*more pixels than a picture has") as caught:
        inspect_picture(bomb, "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "file_format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF"]
)
def test_damage_anywhere_is_decoded_or_refused_in_one_line(file_format: str):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    content = save(image, file_format, exif=exif, icc_profile=swapped_profile())
    chance = random.Random(0)
    refusals: list[str] = []
    for _ in range(120):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 2, 8])):
            reach = min(len(damaged), chance.choice([40, 400, 10**6]))
            damaged[chance.randrange(reach)] = chance.randrange(256)
        try:
            inspect_picture(bytes(damaged), "a")
        except DatasetError as refusal:
            refusals.append(str(refusal))
    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


def test_pixels_without_a_range_are_refused():
    content = save(Image.new("F", (4, 4)), "TIFF")
    with pytest.raises(DatasetError, match=r"a\.tif: .*8 bits per channel"):
        decode_picture(content, "a.tif")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_refused(content: bytes):
    with pytest.raises(DatasetError) as caught:
        decode_picture(content, "a.png")
    assert str(caught.value) == (
        "a.png: not a readable picture (not a known image format): remove or repair it"
    )


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_cut_short_is_refused(file_format: str):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = save(Image.fromarray(noise), file_format)
    with pytest.raises(DatasetError, match="a: not a readable picture"):
        decode_picture(content[: len(content) // 2], "a")


def test_formats_that_run_other_programs_are_refused():
    postscript = save(Image.new("RGB", (4, 4)), "EPS")
    with pytest.raises(DatasetError, match="not a known image format"):
        decode_picture(postscript, "a.eps")
