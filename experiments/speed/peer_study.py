#!/usr/bin/env python3
"""The study of style_ablation in a fresh process, as a plain script of transformers, diffusers and art-fid: photos described
by Phi-4, drawn in each style by Stable Diffusion 3, measured, written down.

    python3 peer_study.py MODELS PHOTOS COUNT STYLES STYLE_PICTURES OUT BATCH [STEPS SIDE TOKENS]   prints one JSON line

MODELS holds phi4-peer, sd3 and nets (whole_models.py). One model is on the device at a time.
"""
import csv
import gc
import json
import os
import sys
import time
from pathlib import Path

import peer_captions
from peer_artfid import INCEPTION, art_fid_with

START = time.perf_counter()
INSTRUCTION = "Use a sentence to describe the person's appearance, including hairstyle, face shape, and clothing."
STYLES = ["Peanuts comic style",
          "a cartoon character in Peanuts comic style, flat colors, thick outlines, simple shapes, cute and minimalist"]
COMPARED = 224


class Clock:
    """Seconds of each phase, one after the other."""

    def __init__(self):
        self.last, self.seconds = START, {}

    def lap(self, name):
        now = time.perf_counter()
        self.seconds[name], self.last = now - self.last, now


def seed_of(name):
    return sum(name.encode())


def describe(models, photos, batch, tokens, clock):
    captioner = peer_captions.Phi4(models / "phi4-peer", *peer_captions.on_this_machine("phi4"))
    clock.lap("load_captioner")
    said = peer_captions.describe(captioner, photos, batch, tokens, question=INSTRUCTION)
    clock.lap("describing")
    return dict(zip(photos, said))


def draw(models, jobs, out, batch, steps, side, clock):
    """Jobs are (photo, style, prompt)."""
    import torch
    from diffusers import StableDiffusion3Pipeline

    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    pipe = StableDiffusion3Pipeline.from_pretrained(
        models / "sd3", torch_dtype=dtype, text_encoder_3=None, tokenizer_3=None
    ).to(device)
    pipe.set_progress_bar_config(disable=True)
    clock.lap("load_generator")
    for at in range(0, len(jobs), batch):
        now = jobs[at : at + batch]
        noise = [torch.Generator("cpu").manual_seed(seed_of(photo.stem)) for photo, _, _ in now]
        pictures = pipe([prompt for _, _, prompt in now], num_inference_steps=steps, height=side, width=side,
                        generator=noise).images
        for (photo, style, _), picture in zip(now, pictures):
            picture.save(out / "drawn" / style / f"{photo.stem}.png")
    clock.lap("drawing")


def small(source, target):
    from PIL import Image

    Image.open(source).convert("RGB").resize((COMPARED, COMPARED), Image.BICUBIC).save(target)


def measure(models, photos, styles, style_pictures, out, clock):
    """ArtFID of each style, which art-fid makes of folders."""
    import torch

    for photo in photos:
        small(photo, out / "photos" / f"{photo.stem}.png")
    for picture in style_pictures:
        small(picture, out / "style" / f"{picture.stem}.png")
    for style in styles:
        for picture in sorted((out / "drawn" / style).iterdir()):
            small(picture, out / "images" / style / picture.name)
    clock.lap("resizing")
    nets = models / "nets"
    art_fid = art_fid_with(nets / INCEPTION, nets / "alexnet.pth")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    workers = min(len(os.sched_getaffinity(0)), 8)
    found = {}
    for style in styles:
        found[style] = art_fid.compute_art_fid(str(out / "images" / style), str(out / "style"), str(out / "photos"), 50,
                                               device, "art_fid", "lpips", workers)
    clock.lap("measuring")
    return found


def write(out, jobs, scores, clock):
    """Tables and a page."""
    with open(out / "items.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "strategy", "prompt"), *((p.stem, style, text) for p, style, text in jobs)])
    with open(out / "results.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("strategy", "artfid"), *scores.items()])
    rows = "".join(f'<figure><img src="images/{style}/{p.stem}.png"><figcaption>{p.stem} {style}</figcaption></figure>'
                   for p, style, _ in jobs)
    table = "".join(f"<tr><td>{style}<td>{score:.3f}" for style, score in scores.items())
    (out / "report.html").write_text(f"<!doctype html><table>{table}</table>{rows}", encoding="utf-8")
    clock.lap("writing")


def main(models, photos, count, styles, style_pictures, out, batch, steps=28, side=1024, tokens=64):
    import diffusers  # noqa: F401 (imported here for the clock)
    import torch
    import transformers  # noqa: F401

    clock = Clock()
    clock.lap("import")
    models, out = Path(models), Path(out)
    photos = sorted(Path(photos).iterdir())[: int(count)]
    # A style beyond those is the first under another name: it takes as long.
    texts = {f"style{at}": STYLES[at % len(STYLES)] for at in range(int(styles))}
    for folder in ["photos", "style", *(f"{kind}/{style}" for kind in ("drawn", "images") for style in texts)]:
        (out / folder).mkdir(parents=True, exist_ok=True)
    said = describe(models, photos, int(batch), int(tokens), clock)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    jobs = [(photo, style, f"{said[photo]}, {text}") for photo in photos for style, text in texts.items()]
    draw(models, jobs, out, int(batch), int(steps), int(side), clock)
    style_files = sorted(file for file in Path(style_pictures).iterdir() if file.suffix in (".png", ".jpg"))
    scores = measure(models, photos, texts, style_files, out, clock)
    write(out, jobs, scores, clock)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    print(json.dumps({"photos": len(photos), "pictures": len(jobs), "batch_size": int(batch), "phases": clock.seconds,
                      "peak_memory_bytes": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
