"""Makes tests/golden/images: picture files of every kind, and what Pillow's convert("RGB") and resize
make of them.

Run from the repository's root with Pillow and safetensors installed:
    python tests/reference/images.py
"""

import hashlib
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

OUT = Path(__file__).parent.parent / "golden" / "images"
WIDTH, HEIGHT = 37, 23
expected = {}


def picture(width, height, channels=3):
    """Smooth shapes with some noise, different in every channel."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for c in range(channels):
        plane = 127 + 80 * np.sin(x / (5 + c) + c) + 60 * np.cos(y / (4 + c)) + RANDOM.normal(0, 12, (height, width))
        planes.append(np.clip(plane, 0, 255))
    return np.stack(planes, -1).astype(np.uint8)


def put(name, data):
    (OUT / name).write_bytes(data)
    expected[name] = np.asarray(Image.open(OUT / name).convert("RGB"))


def png(name, depth, colour, rows, *chunks):
    """A PNG written by hand: kinds that Pillow reads and does not write. `rows` are packed bytes."""

    def chunk(tag, body):
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    extra = b"".join(chunk(tag, body) for tag, body in chunks)
    put(name, b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def packed(values, depth):
    """Rows of numbers below 2**depth, most significant bit first."""
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


def pngs():
    gray = picture(WIDTH, HEIGHT, 1)[..., 0]
    colours = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
    for depth in (1, 2, 4, 8):
        values = gray.astype(np.int64) >> (8 - depth)
        palette = (b"PLTE", colours[: 2**depth].tobytes())
        png(f"gray{depth}.png", depth, 0, packed(values, depth))
        png(f"palette{depth}.png", depth, 3, packed(values, depth), palette)
        alphas = (b"tRNS", bytes(range(0, 2**depth)))
        png(f"palette{depth}_transparent.png", depth, 3, packed(values, depth), palette, alphas)
    png("gray8_transparent.png", 8, 0, packed(gray.astype(np.int64), 8), (b"tRNS", struct.pack(">H", int(gray[3, 4]))))
    rgb = picture(WIDTH, HEIGHT)
    sample = rgb[2, 2].astype(int)
    png("rgb8_transparent.png", 8, 2, [row.tobytes() for row in rgb], (b"tRNS", struct.pack(">HHH", *sample)))
    for channels, colour, name in ((1, 0, "gray16"), (2, 4, "gray_alpha16"), (3, 2, "rgb16"), (4, 6, "rgba16")):
        wide = RANDOM.integers(0, 65536, (HEIGHT, WIDTH, channels)).astype(">u2")
        wide[: HEIGHT // 2] >>= 8
        png(f"{name}.png", 16, colour, [row.tobytes() for row in wide])
    for channels, mode in ((2, "LA"), (4, "RGBA"), (3, "RGB")):
        data = picture(WIDTH, HEIGHT, channels)
        put(f"{mode.lower()}8.png", encoded(Image.fromarray(data, mode), "PNG"))


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpegs():
    image = Image.fromarray(picture(WIDTH, HEIGHT))
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        name = subsampling.replace(":", "")
        put(f"jpeg{name}.jpg", encoded(image, "JPEG", quality=85, subsampling=subsampling))
        put(f"progressive{name}.jpg", encoded(image, "JPEG", quality=70, subsampling=subsampling, progressive=True))
    put("low_quality.jpg", encoded(image, "JPEG", quality=5))
    put("rgb.jpg", encoded(image, "JPEG", keep_rgb=True))
    put("gray.jpg", encoded(image.convert("L"), "JPEG", quality=80))
    put("restarts.jpg", encoded(image, "JPEG", restart_marker_blocks=2))
    exif = Image.Exif()
    exif[0x0112] = 6
    put("rotated.jpg", encoded(image, "JPEG", exif=exif))
    for width, height in ((1, 1), (8, 1), (17, 16)):
        put(f"size{width}x{height}.jpg", encoded(Image.fromarray(picture(width, height)), "JPEG", quality=90))
    cmyk = encoded(Image.fromarray(picture(WIDTH, HEIGHT, 4), "CMYK"), "JPEG", quality=85)
    put("cmyk.jpg", cmyk)
    # The same data declared as YCCK, and without Adobe's marker.
    at = cmyk.index(b"Adobe") - 4
    assert cmyk[at : at + 2] == b"\xff\xee" and cmyk[at + 15] == 0
    put("ycck.jpg", cmyk[: at + 15] + b"\x02" + cmyk[at + 16 :])
    put("cmyk_plain.jpg", cmyk[:at] + cmyk[at + 16 :])
    whole = encoded(image, "JPEG", quality=85)
    damaged = bytearray(whole)
    damaged[len(whole) * 2 // 3] ^= 0x55
    put("damaged_scan.jpg", bytes(damaged))
    put("trailing.jpg", whole + b"and more")


def webps():
    rgb, rgba = Image.fromarray(picture(WIDTH, HEIGHT)), Image.fromarray(picture(WIDTH, HEIGHT, 4), "RGBA")
    put("lossless.webp", encoded(rgb, "WEBP", lossless=True))
    put("lossless_alpha.webp", encoded(rgba, "WEBP", lossless=True, exact=True))
    put("lossy.webp", encoded(rgb, "WEBP", quality=60))
    put("lossy_alpha.webp", encoded(rgba, "WEBP", quality=75))
    put("animated.webp", encoded(rgb, "WEBP", save_all=True, append_images=[rgb.transpose(0)], lossless=True))


FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Up, down, one axis only, to and from a single pixel, far.
SIZES = [
    (37, 23, [(37, 23), (20, 11), (19, 23), (37, 50), (74, 46), (1, 1), (3, 90), (131, 7), (36, 24)]),
    (1, 1, [(5, 4)]),
    (3, 2, [(64, 1)]),
    (640, 427, [(384, 384), (224, 224), (1000, 37), (639, 426), (641, 900), (2, 3)]),
    (427, 640, [(384, 384), (224, 224)]),
    (5, 3001, [(7, 10), (1, 2999)]),
]


def ramp(width, height):
    """A picture that the test can make too."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.uint32)
    return (((x * 7919 + y * 104729 + c * 1299709 + x * y * 31) >> 3) & 255).astype(np.uint8)


def resizes():
    rows = []
    # The order of the two passes depends on all four numbers: many small cases.
    some = [(*RANDOM.integers(1, 60, 2), [tuple(RANDOM.integers(1, 80, 2))]) for _ in range(60)]
    for width, height, targets in SIZES + [[int(w), int(h), [(int(a), int(b))]] for w, h, [(a, b)] in some]:
        image = Image.fromarray(ramp(width, height))
        for target in targets:
            for name, filter in FILTERS.items():
                data = image.resize(target, filter).tobytes()
                digest = hashlib.sha256(data).hexdigest()
                rows.append({"from": [width, height], "to": target, "filter": name, "sha256": digest})
    (OUT / "resize.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def truncations():
    """The shortest beginning of a file that Pillow accepts."""

    def opens(data):
        try:
            Image.open(io.BytesIO(data)).convert("RGB")
            return True
        except Exception:
            return False

    names = ["jpeg420.jpg", "progressive420.jpg", "cmyk.jpg", "trailing.jpg"]
    shortest = {}
    for name in names:
        data = (OUT / name).read_bytes()
        accepted = [n for n in range(len(data) + 1) if opens(data[:n])]
        assert accepted == list(range(accepted[0], len(data) + 1))
        shortest[name] = accepted[0]
    (OUT / "shortest.json").write_text(json.dumps(shortest, indent=1) + "\n")
    print({name: (n, (OUT / name).stat().st_size) for name, n in shortest.items()})


if __name__ == "__main__":
    RANDOM = np.random.default_rng(7)
    OUT.mkdir(parents=True, exist_ok=True)
    pngs()
    jpegs()
    webps()
    resizes()
    truncations()
    save_file({name: np.ascontiguousarray(array) for name, array in expected.items()}, OUT / "expected.safetensors")
