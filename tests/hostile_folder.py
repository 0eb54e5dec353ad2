"""Everything that may lie in a folder of pictures, and what is to become of it."""

import os
import socket
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (48, 40)) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


JPEG = encoded(noise(), "JPEG")
PNG = encoded(noise())
ANIMATION = encoded(noise("P"), "GIF", save_all=True, append_images=[noise("P").rotate(90)])

USED = {
    "plain.png": PNG,
    "really a jpeg.png": JPEG,
    "UPPER.PNG": PNG,
    "Case.png": PNG,
    "case.png": JPEG,
    "cmyk.jpg": encoded(noise("CMYK"), "JPEG"),
    "sixteen bits.png": encoded(Image.fromarray(np.full((9, 9), 40000, np.uint16))),
    "palette.png": encoded(noise("P")),
    "transparent.png": encoded(noise("RGBA")),
    "grey.png": encoded(noise("L")),
    "one bit.png": encoded(noise("1")),
    "animated.gif": ANIMATION,
    "tall.png": encoded(Image.new("RGB", (1, 20000))),
    "one pixel.png": encoded(Image.new("RGB", (1, 1))),
    "忍者 🦊 👨\u200d👩.png": PNG,
    "שלום مرحبا.png": PNG,
    "two\nlines.png": PNG,
    "turned \u202egnp.png": PNG,
    " leading space.png": PNG,
    "[brackets] *?%s {x}.png": PNG,
    "dots.in.the.name.png": PNG,
    "folder.png/inside.png": PNG,
    "deep/" * 60 + "down.png": PNG,
}
"""Each has the caption `a ninja`."""

WORDS = {
    "ten thousand words": b"ninja " * 10_000,
    "byte order mark": b"\xef\xbb\xbfa ninja",
    "windows lines": b"a ninja\r\na fox\r\n\r\n",
    "emoji": "忍者 🦊".encode(),
}
"""Captions that are fine."""

BAD_WORDS = {
    "missing": (None, "no caption"),
    "empty": (b"", "no caption"),
    "blank": (b" \n\t\r\n", "no caption"),
    "latin-1": (b"caf\xe9", "caption not UTF-8"),
    "utf-16": ("a ninja".encode("utf-16"), "caption not UTF-8"),
    "zero bytes": (b"a\0ninja", "caption with control characters"),
    "escapes": (b"\x1b[31mred", "caption with control characters"),
    "second line bad": (b"fine\nnot \x07 fine", "caption with control characters"),
    "a whole book": (b"ninja " * 200_000, "caption too long"),
}

BAD_PICTURES = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "damaged picture"),
    "truncated.png": (PNG[: len(PNG) // 2], "damaged picture"),
    "header only.jpg": (JPEG[:20], None),
    "no bytes.png": (b"", "no picture"),
    "text.png": (b"I am no picture", "no picture"),
    "page.jpg": (b"<html><body>404</body></html>", "no picture"),
    "random.webp": (bytes(range(256)) * 8, "no picture"),
    "bomb.png": (png_that_claims(60_000, 60_000), "too many pixels"),
    "hollow.png": (png_that_claims(500, 500), "damaged picture"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(100), "no picture"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
}

IGNORED = {
    ".DS_Store": "hidden files",
    "._plain.png": "hidden files",
    ".ipynb_checkpoints/plain.png": "hidden files",
    "README.md": ".md files",
    "LICENSE": "suffixless files",
    "notes.txt": "unused caption files",
    "Thumbs.db": ".db files",
}


def put(folder: Path, name: str, content: bytes, words: bytes | None = b"a ninja") -> None:
    picture = folder / name
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(content)
    if words is not None:
        picture.with_suffix(".txt").write_bytes(words)


OUT_OF_PLACE = ("dangling.png", "itself.png", "endless.png", "pipe.png", "socket.png")
"""Skipped, as no regular file."""


def fill_hostile_folder(folder: Path) -> None:
    """Put everything there; the working folder must be this one, as a socket's path is short."""
    for name, content in USED.items():
        put(folder, name, content)
    for name, words in WORDS.items():
        put(folder, f"{name}.png", PNG, words)
    for name, (words, _) in BAD_WORDS.items():
        put(folder, f"{name}.png", PNG, words)
    for name, (content, _) in BAD_PICTURES.items():
        put(folder, name, content)
    for name in IGNORED:
        put(folder, name, b"", None)
    (folder / "empty folder").mkdir()
    (folder / "circle").symlink_to(folder)
    (folder / "to its parent").symlink_to("..")
    (folder / "second name").symlink_to("folder.png")
    for name, target in {
        "dangling": "gone",
        "itself": "itself.png",
        "endless": "/dev/zero",
    }.items():
        (folder / f"{name}.png").symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "piped words.txt")
    put(folder, "piped words.png", PNG, None)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
    put(folder, "a disk.png", b"")
    os.truncate(folder / "a disk.png", 2**31)
    (folder / os.fsdecode(b"\xff\xfe.png")).write_bytes(PNG)
    (folder / os.fsdecode(b"\xff\xfe.txt")).write_bytes(b"a ninja")
