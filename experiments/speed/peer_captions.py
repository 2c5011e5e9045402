#!/usr/bin/env python3
"""Captions of a folder in a fresh process, by transformers: batches of pictures, one after the other.

    python3 peer_captions.py blip|phi4 MODEL FOLDER COUNT BATCH TOKENS [OUT.csv]     prints one JSON line

Every text has TOKENS new tokens: random weights end none.
"""
import csv
import json
import sys
import time
from pathlib import Path

START = time.perf_counter()
QUESTION = "Describe the picture in one sentence."


class Blip:
    def __init__(self, folder, device, dtype):
        from transformers import BlipForConditionalGeneration, BlipImageProcessor, BertTokenizer

        self.images, self.tokenizer = BlipImageProcessor.from_pretrained(folder), BertTokenizer.from_pretrained(folder)
        self.model = BlipForConditionalGeneration.from_pretrained(folder, dtype=dtype).to(device).eval()

    def captions(self, pictures, tokens):
        pixels = self.images(pictures, return_tensors="pt")["pixel_values"].to(self.model.device, self.model.dtype)
        ids = self.model.generate(pixel_values=pixels, max_new_tokens=tokens, min_new_tokens=tokens)
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)


class Phi4:
    # Stands for a picture in this tokenizer.
    IMAGE = "<|endoftext10|>"

    def __init__(self, folder, device, dtype):
        from transformers import Phi4MultimodalForCausalLM, Phi4MultimodalImageProcessor, PreTrainedTokenizerFast

        self.images = Phi4MultimodalImageProcessor()
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json", pad_token="<|endoftext|>",
                                                 padding_side="left")
        self.model = Phi4MultimodalForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()

    def captions(self, pictures, tokens, question=QUESTION):
        given = self.images(pictures, return_tensors="pt")
        counts = given.pop("num_img_tokens")
        texts = [f"<|user|>{self.IMAGE * int(count)}{question}<|end|><|assistant|>" for count in counts]
        given = {**self.tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False), **given}
        given = {name: value.to(self.model.device) for name, value in given.items()}
        given["image_pixel_values"] = given["image_pixel_values"].to(self.model.dtype)
        ids = self.model.generate(**given, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        return self.tokenizer.batch_decode(ids[:, given["input_ids"].shape[1]:], skip_special_tokens=True)


CAPTIONERS = {"blip": Blip, "phi4": Phi4}


def on_this_machine(family):
    """Device and number type, the model's own on a GPU."""
    import torch

    if not torch.cuda.is_available():
        return "cpu", torch.float32
    return "cuda", {"blip": torch.float16, "phi4": torch.bfloat16}[family]


def describe(captioner, files, batch, tokens, **more):
    import torch
    from PIL import Image

    said = []
    with torch.inference_mode():
        for at in range(0, len(files), batch):
            pictures = [Image.open(file).convert("RGB") for file in files[at : at + batch]]
            said += captioner.captions(pictures, tokens, **more)
    return said


def main(family, model, folder, count, batch, tokens, out=None):
    import torch

    import transformers  # noqa: F401 (imported here for the clock)

    files = sorted(Path(folder).iterdir())[: int(count)]
    imported = time.perf_counter()
    captioner = CAPTIONERS[family](model, *on_this_machine(family))
    loaded = time.perf_counter()
    said = describe(captioner, files, int(batch), int(tokens))
    if out:
        with open(out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("image", "caption"), *zip((file.name for file in files), said)])
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    print(json.dumps({"import_seconds": imported - START, "load_seconds": loaded - imported, "pictures": len(said),
                      "captions_seconds": time.perf_counter() - loaded, "batch_size": int(batch),
                      "peak_memory_bytes": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
