#!/usr/bin/env python3
"""A fresh process from its start to the first picture of Stable Diffusion 3, by diffusers.

    python3 peer_start.py FOLDER OUT [STEPS SIDE]   draws into the file OUT, prints one JSON line
    python3 peer_start.py --prepare FOLDER          writes random weights of the published size into FOLDER
"""
import sys
import time
from pathlib import Path

START = time.perf_counter()
# The file that says that all weights were written.
WHOLE = "weights.whole"


def prepare(folder):
    import torch

    import nets
    from timing import build

    parts = {"transformer": nets.sd3_transformer(), "vae": nets.autoencoder(16), "text_encoder": nets.clip("l"),
             "text_encoder_2": nets.clip("g"), "text_encoder_3": nets.t5()}
    for name, new in parts.items():
        build(new, torch.bfloat16).save_pretrained(f"{folder}/{name}")
    (Path(folder) / WHOLE).touch()


def draw(folder, out, steps=28, side=1024):
    import json

    import torch
    from diffusers import StableDiffusion3Pipeline

    imported = time.perf_counter()
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, torch_dtype=dtype).to(device)
    pipe.set_progress_bar_config(disable=True)
    loaded = time.perf_counter()
    noise = torch.Generator("cpu").manual_seed(0)
    pipe("a cat", num_inference_steps=steps, height=side, width=side, generator=noise).images[0].save(out)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    print(json.dumps({"import_seconds": imported - START, "load_seconds": loaded - imported,
                      "picture_seconds": time.perf_counter() - loaded, "peak_memory_bytes": peak}))


if __name__ == "__main__":
    if sys.argv[1] == "--prepare":
        prepare(sys.argv[2])
    else:
        draw(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
