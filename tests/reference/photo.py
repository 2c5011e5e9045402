"""Makes tests/golden/photo: photos and what Pillow and NumPy measure of them.

    pip install numpy==2.4.1 pillow==12.1.0 scikit-image==0.25.2
    python tests/reference/photo.py tests/golden/photo

The photos come with scikit-image: `astronaut` (NASA, public domain), a face seen from the front, and
`camera` (CC0), a man seen from the side.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter


def bundled(name):
    """A picture that scikit-image brings along, read from its package or from a folder given second."""
    if len(sys.argv) > 2:
        return Image.open(Path(sys.argv[2]) / name).convert("RGB")
    import skimage

    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


def measures(path):
    picture = Image.open(path).convert("RGB")
    scale = 512 / max(picture.size)
    if scale < 1:
        size = [max(1, round(length * scale)) for length in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    gray = np.asarray(picture.convert("L")).astype(np.float64)
    padded = np.pad(gray, 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * gray
    return {"luma": gray.mean(), "sharpness": laplacian.var() / gray.var()}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    front = bundled("astronaut.png").crop((90, 0, 360, 256))
    side = bundled("camera.png").crop((130, 0, 386, 300))
    far = Image.new("RGB", (640, 400), (90, 110, 90))
    far.paste(front.resize((180, 171), Image.Resampling.BICUBIC), (300, 180))
    pictures = {
        "front": front,
        "side": side,
        "far": far,
        "dark": front.point(lambda value: value // 5),
        "blurred": front.filter(ImageFilter.GaussianBlur(5)),
    }
    expected = {}
    for name, picture in pictures.items():
        path = folder / f"{name}.png" if name == "far" else folder / f"{name}.jpg"
        picture.save(path, **({} if name == "far" else {"quality": 85}))
        expected[path.name] = measures(path)
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


main(Path(sys.argv[1]))
