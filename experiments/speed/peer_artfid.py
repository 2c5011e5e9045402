#!/usr/bin/env python3
"""ArtFID of three folders in a fresh process, by art-fid and lpips.

    python3 peer_artfid.py ROOT WORKERS             ROOT/content, ROOT/style, ROOT/stylized; prints one JSON line
    python3 peer_artfid.py --prepare ROOT COUNT     writes COUNT JPEGs of 224×224 into each, and random weights
"""
import json
import sys
import warnings
from pathlib import Path

FOLDERS = ("content", "style", "stylized")
# The file that says that all the others were written.
WHOLE = "files.whole"
INCEPTION, ALEXNET = "art_inception.pth", "alexnet-owt-7be5be79.pth"


def picture(job):
    import numpy as np
    from PIL import Image

    folder, seed, number = job
    small = np.random.default_rng((seed, number)).integers(0, 255, (14, 14, 3), dtype=np.uint8)
    Image.fromarray(small).resize((224, 224), Image.BICUBIC).save(folder / f"{number:05}.jpg", quality=92)


def prepare(root, count):
    from concurrent.futures import ProcessPoolExecutor

    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    jobs = [(root / name, seed, number) for seed, name in enumerate(FOLDERS) for number in range(count)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(picture, jobs, chunksize=64))

    import nets
    import torch

    torch.manual_seed(0)
    torch.save(nets.art_inception()().state_dict(), root / INCEPTION)
    torch.save(nets.alexnet()().state_dict(), root / ALEXNET)
    (root / WHOLE).touch()


def art_fid_with(inception, alexnet_weights):
    """The package with these files of weights."""
    import lpips.pretrained_networks as pretrained
    import torch
    from art_fid import art_fid, utils
    from scipy import linalg

    # art-fid would download, and asks SciPy for what it no longer offers since 1.18 (an error estimate).
    utils.download = lambda *_, **__: str(inception)
    network = pretrained.tv.alexnet

    def alexnet(*_, **__):
        made = network(weights=None)
        # Only its convolutions are read; they may be all that the file has.
        made.load_state_dict(torch.load(alexnet_weights), strict=False)
        return made

    pretrained.tv.alexnet = alexnet
    root_of = linalg.sqrtm
    art_fid.linalg.sqrtm = lambda a, disp=True: root_of(a) if disp else (root_of(a), 0.0)
    return art_fid


def measure(root, workers):
    import torch

    art_fid = art_fid_with(root / INCEPTION, root / ALEXNET)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    content, style, stylized = (str(root / name) for name in FOLDERS)
    score = art_fid.compute_art_fid(stylized, style, content, 50, device, "art_fid", "lpips", workers)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    print(json.dumps({"artfid": score, "peak_memory_bytes": peak}))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    if sys.argv[1] == "--prepare":
        prepare(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        measure(Path(sys.argv[1]), int(sys.argv[2]))
