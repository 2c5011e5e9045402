"""Tiny random IP-Adapters in all published layouts for the tiny pipelines of tests/golden/sd15 (run sd15.py first), and the
pictures that diffusers draws with them: tests/golden/ip_adapter/.

The files are laid out as published: `models/` with the adapters and `image_encoder/` beside them. Tensors are called as in the
published files, from which diffusers' own names are made when it loads them.
"""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from sd3 import PROMPTS, photo, randomize

GOLDEN = Path(__file__).parent.parent / "golden"
OUT = GOLDEN / "ip_adapter"
MODELS = OUT / "models"
# The side is that of the feature extractor of like_v1; the other pipeline has none, and gets the encoder's.
ENCODER = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=32, patch_size=8, projection_dim=20, hidden_act="gelu")
TOKENS = (ENCODER["image_size"] // ENCODER["patch_size"]) ** 2 + 1
# Numbers of one head of the resampler, whatever its width is.
HEAD = 64

ADAPTERS = {
    "ip-adapter_like_v1.safetensors": ("like_v1", "base"),
    "ip-adapter_other.bin": ("other", "base"),
    "ip-adapter-plus_like_v1.safetensors": ("like_v1", "plus"),
    "ip-adapter-plus_other.bin": ("other", "plus"),
    "ip-adapter-full-face_like_v1.bin": ("like_v1", "full"),
}
BASE, PLUS, FULL = "ip-adapter_like_v1.safetensors", "ip-adapter-plus_like_v1.safetensors", "ip-adapter-full-face_like_v1.bin"
OTHER, OTHER_PLUS = "ip-adapter_other.bin", "ip-adapter-plus_other.bin"
CASES = [
    dict(adapter=BASE, prompts=PROMPTS[:1], seeds=[0]),
    dict(adapter=BASE, prompts=PROMPTS[:2], seeds=[1, 2], scale=0.7, images=2, width=48, height=64, guidance_scale=3.0, negative_prompt="hat"),
    dict(adapter=BASE, prompts=PROMPTS[:1], seeds=[3], scale=0.7, guidance_scale=1.0),
    dict(adapter=BASE, prompts=PROMPTS[:1], seeds=[4], scale=0.0),
    dict(adapter=BASE, prompts=PROMPTS[:2], seeds=[5, 6], photo=True, strength=0.7, steps=8, images=2),
    dict(adapter=PLUS, prompts=PROMPTS[:1], seeds=[7]),
    dict(adapter=PLUS, prompts=PROMPTS[:2], seeds=[8, 9], scale=0.7, images=2, guidance_scale=6.0),
    dict(adapter=PLUS, prompts=PROMPTS[:1], seeds=[10], images=2, guidance_scale=1.0),
    dict(adapter=PLUS, prompts=PROMPTS[:1], seeds=[11], scale=0.7, photo=True, strength=0.6, steps=8),
    dict(adapter=FULL, prompts=PROMPTS[:1], seeds=[12], images=2, scale=0.7),
    dict(adapter=OTHER, prompts=PROMPTS[:1], seeds=[13], steps=6),
    dict(adapter=OTHER, prompts=PROMPTS[1:2], seeds=[14], scale=0.7, images=2, steps=6, photo=True, strength=0.8),
    dict(adapter=OTHER_PLUS, prompts=PROMPTS[1:2], seeds=[15], scale=1.3, images=2, steps=6),
    dict(adapter=OTHER_PLUS, prompts=PROMPTS[:1], seeds=[16], scale=0.7, steps=6, guidance_scale=1.0),
    dict(adapter=BASE, prompts=PROMPTS[:1], seeds=[17], scale=0.7, lora="sd15_kohya.safetensors"),
    dict(adapter=PLUS, prompts=PROMPTS[:2], seeds=[18, 19], scale=0.7, controlnet="like_v1"),
    dict(adapter=BASE, prompts=PROMPTS[:1], seeds=[20], images=2, controlnet="like_v1", lora="sd15_kohya.safetensors"),
]


def noise(generator: torch.Generator, *shape: int, gain: float = 1.3) -> torch.Tensor:
    return (gain * torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))).half()


def norm(generator: torch.Generator, name: str, width: int) -> dict:
    return {f"{name}.weight": (1 + 0.2 * torch.randn(width, generator=generator)).half(), f"{name}.bias": (0.2 * torch.randn(width, generator=generator)).half()}


def linear(generator: torch.Generator, name: str, inputs: int, outputs: int, bias: bool = True) -> dict:
    tensors = {f"{name}.weight": noise(generator, outputs, inputs)}
    return tensors | ({f"{name}.bias": (0.1 * torch.randn(outputs, generator=generator)).half()} if bias else {})


def base(generator: torch.Generator, text: int) -> dict:
    return linear(generator, "proj", ENCODER["projection_dim"], 4 * text) | norm(generator, "norm", text)


def full(generator: torch.Generator, text: int) -> dict:
    hidden = ENCODER["hidden_size"]
    return linear(generator, "proj.0", hidden, hidden) | linear(generator, "proj.2", hidden, text) | norm(generator, "proj.3", text)


def plus(generator: torch.Generator, text: int, queries: int = 5, width: int = 16, heads: int = 2) -> dict:
    tensors = {"latents": (torch.randn(1, queries, width, generator=generator)).half()}
    tensors |= linear(generator, "proj_in", ENCODER["hidden_size"], width) | linear(generator, "proj_out", width, text) | norm(generator, "norm_out", text)
    for i in range(4):
        at = f"layers.{i}"
        tensors |= norm(generator, f"{at}.0.norm1", width) | norm(generator, f"{at}.0.norm2", width)
        tensors |= linear(generator, f"{at}.0.to_q", width, heads * HEAD, False) | linear(generator, f"{at}.0.to_kv", width, 2 * heads * HEAD, False)
        tensors |= linear(generator, f"{at}.0.to_out", heads * HEAD, width, False) | norm(generator, f"{at}.1.0", width)
        tensors |= linear(generator, f"{at}.1.1", width, 4 * width, False) | linear(generator, f"{at}.1.3", 4 * width, width, False)
    return tensors


def adapters(pipelines: dict) -> None:
    for number, (name, (pipeline, kind)) in enumerate(ADAPTERS.items()):
        unet, generator = pipelines[pipeline].unet, torch.Generator().manual_seed(3000 + number)
        text = unet.config.cross_attention_dim
        prompt = {"base": base, "full": full, "plus": plus}[kind](generator, text)
        layers = {}
        # As trained: the number of each attention among all, those of the picture over itself included.
        for at, processor in enumerate(unet.attn_processors):
            if processor.endswith("attn2.processor"):
                channels = unet.get_submodule(processor.removesuffix(".processor")).to_q.out_features
                for part in ("to_k_ip", "to_v_ip"):
                    layers[f"{at}.{part}.weight"] = noise(generator, channels, text, gain=2.0)
        if name.endswith(".bin"):
            torch.save({"image_proj": prompt, "ip_adapter": layers}, MODELS / name)
        else:
            tensors = {f"image_proj.{key}": value for key, value in prompt.items()} | {f"ip_adapter.{key}": value for key, value in layers.items()}
            save_file(tensors, MODELS / name, metadata={"format": "pt"})


def encoder() -> None:
    net = CLIPVisionModelWithProjection(CLIPVisionConfig(**ENCODER))
    randomize(net.eval(), 2900)
    net.half().save_pretrained(MODELS / "image_encoder")


def pipeline_of(case: dict, parts: dict):
    if "controlnet" in case:
        net = ControlNetModel.from_pretrained(GOLDEN / "controlnet" / case["controlnet"], torch_dtype=torch.float32)
        return StableDiffusionControlNetPipeline(**parts | {"controlnet": net}, requires_safety_checker=False)
    kind = StableDiffusionImg2ImgPipeline if "photo" in case else StableDiffusionPipeline
    return kind(**parts, requires_safety_checker=False)


def draw(number: int, case: dict) -> dict:
    name, count = ADAPTERS[case["adapter"]][0], len(case["prompts"])
    loaded = StableDiffusionPipeline.from_pretrained(GOLDEN / "sd15" / name, torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False)
    drawing = pipeline_of(case, loaded.components)
    drawing.set_progress_bar_config(disable=True)
    if "lora" in case:
        drawing.load_lora_weights(GOLDEN / "lora", weight_name=case["lora"], adapter_name="lora")
        drawing.set_adapters(["lora"], adapter_weights=[0.7])
    options = dict(prompt=case["prompts"], num_inference_steps=case.get("steps", 4), guidance_scale=case.get("guidance_scale", 4.0))
    row = {"pipeline": name, "scale": 1.0, "steps": 4, "guidance_scale": 4.0} | {key: value for key, value in case.items() if key not in ["photo", "images"]}
    if "negative_prompt" in case:
        options["negative_prompt"] = [case["negative_prompt"]] * count
    if "photo" in case:
        options |= dict(image=[photo(500 + 10 * number + i, 47, 61) for i in range(count)], strength=case["strength"])
        row["photos"] = [f"photo_{number}_{i}.png" for i in range(count)]
    elif "controlnet" in case:
        options |= dict(image=[photo(600 + 10 * number + i, 40, 56) for i in range(count)])
        row["steering"] = [f"steering_{number}_{i}.png" for i in range(count)]
    else:
        options |= {key: case[key] for key in ["width", "height"] if key in case}
    for picture, file in zip(options.get("image", []), row.get("photos", row.get("steering", []))):
        picture.save(OUT / file)
    # Of sizes that the encoder has to cut.
    prompts = [photo(700 + 10 * number + i, *size) for i, size in enumerate([(50, 37), (33, 64)][: case.get("images", 1)])]
    row["images"] = [f"prompt_{number}_{i}.png" for i in range(len(prompts))]
    for picture, file in zip(prompts, row["images"]):
        picture.save(OUT / file)
    generators = lambda: [torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]]
    with torch.no_grad():
        plain = drawing(**options, generator=generators()).images
        drawing.load_ip_adapter(str(OUT), subfolder="models", weight_name=case["adapter"], image_encoder_folder="image_encoder")
        # As `set_ip_adapter_scale` does it, which knows no U-Net whose sizes have other numbers of layers.
        for processor in drawing.unet.attn_processors.values():
            if isinstance(processor, IPAdapterAttnProcessor2_0):
                processor.scale = [case.get("scale", 1.0)]
        pictures = drawing(**options, generator=generators(), ip_adapter_image=[prompts]).images
    row["pictures"] = [f"picture_{number}_{i}.png" for i in range(count)]
    for picture, without, file in zip(pictures, plain, row["pictures"]):
        change = np.abs(np.asarray(picture, float) - np.asarray(without, float)).mean()
        print(file, picture.size, f"spread {np.asarray(picture).std():.0f}, changed by {change:.1f}")
        assert np.asarray(picture).std() > 15 and (change > 4) == (case.get("scale") != 0.0)
        picture.save(OUT / file)
    return row


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    MODELS.mkdir(parents=True)
    encoder()
    adapters({name: StableDiffusionPipeline.from_pretrained(GOLDEN / "sd15" / name, safety_checker=None) for name in ["like_v1", "other"]})
    rows = [draw(number, case) for number, case in enumerate(CASES)]
    (OUT / "cases.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
