"""Makes tests/golden/images/fit.json: what Pillow's ImageOps.fit and ImageOps.pad, and resize with a box, make of pictures
of odd shapes.

Run from the repository's root with Pillow 13.0.0 and NumPy 2.4.1 installed:
    python tests/reference/fit.py
"""

import hashlib
import json

import numpy as np
from images import FILTERS, OUT, ramp
from PIL import Image, ImageOps

# Portrait, landscape, square, one pixel wide or high, far from and near to the target's shape.
SIZES = [(321, 214), (214, 321), (128, 128), (1, 90), (90, 1), (1, 1), (3, 300), (300, 3), (97, 61), (113, 112), (37, 23)]
TARGETS = [(112, 112), (48, 48), (64, 96), (96, 64), (5, 7), (1, 1), (131, 40)]
# The pictures themselves, as files: of the camera's orientation nothing is applied.
FILES = ["rotated.jpg", "jpeg420.jpg", "rgba8.png"]


def digest(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def rows_of(name, image, target, method):
    filter = FILTERS[method]
    base = {"from": name, "to": target, "filter": method}
    yield base | {"fit": "squash", "sha256": digest(image.resize(target, filter))}
    yield base | {"fit": "crop", "sha256": digest(ImageOps.fit(image, target, filter))}
    inside = ImageOps.contain(image, target, filter)
    # Of a photo so narrow that nothing is left Pillow makes a black picture.
    if min(inside.size) > 0:
        yield base | {"fit": "pad", "sha256": digest(ImageOps.pad(image, target, filter))}


def windows(random):
    """resize(box=…): whole and broken edges, at the border and inside, up and down."""
    for width, height in [(160, 107), (33, 200), (200, 33), (50, 40), (9, 400)]:
        image = Image.fromarray(ramp(width, height))
        boxes = [(0, 0, width, height / 2), (width / 3, 0, width, height), (2, 1, width - 1, height - 3)]
        for _ in range(3):
            left, right = sorted(random.uniform(0, width, 2))
            top, bottom = sorted(random.uniform(0, height, 2))
            boxes.append((left, top, right, bottom))
        for box in boxes:
            box = [float(np.float32(edge)) for edge in box]
            for target in [(80, 80), (7, 9), (40, 150), (int(box[2]) - int(box[0]) or 1, 30)]:
                for method in ("nearest", "bicubic", "lanczos"):
                    made = image.resize(target, FILTERS[method], box=box)
                    base = {"from": [width, height], "to": target, "filter": method}
                    yield base | {"box": box, "sha256": digest(made)}


def main():
    random = np.random.default_rng(16)
    rows = []
    some = [tuple(int(side) for side in random.integers(1, 90, 2)) for _ in range(24)]
    for width, height in SIZES + some:
        image = Image.fromarray(ramp(width, height))
        for target in TARGETS if (width, height) in SIZES else TARGETS[:2]:
            for method in ("bicubic", "lanczos") if (width, height) in SIZES else ("bicubic",):
                rows += rows_of([width, height], image, target, method)
    for file in FILES:
        image = Image.open(OUT / file).convert("RGB")
        rows += rows_of(file, image, (64, 64), "bicubic")
    rows += windows(random)
    (OUT / "fit.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


main()
