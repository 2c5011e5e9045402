"""Tiny random ControlNets for the tiny pipeline tests/golden/sd15/like_v1 (run sd15.py first), in diffusers' layout and in one file
of the original layout, and the pictures that diffusers draws with them; the edges that OpenCV and the lines that controlnet_aux finds:
tests/golden/controlnet/.

Needs opencv-python-headless beside diffusers 0.42; asks controlnet_aux too where it is installed.
"""

import importlib.util
import json
import re
import shutil
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetImg2ImgPipeline, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

import single_file
from sd3 import PROMPTS, photo, randomize

GOLDEN = Path(__file__).parent.parent / "golden"
OUT = GOLDEN / "controlnet"
PHOTOS = Path(__file__).parent.parent.parent / "experiments" / "mini" / "photos"

NETS = {
    "like_v1": dict(conditioning_embedding_out_channels=(4, 6, 8, 12)),
    "bgr": dict(conditioning_embedding_out_channels=(3, 4, 5, 6), controlnet_conditioning_channel_order="bgr"),
}
CASES = [
    dict(net="like_v1", prompts=PROMPTS[:1], seeds=[0]),
    dict(net="like_v1", prompts=PROMPTS[:2], seeds=[1, 2], scale=0.6, guidance_scale=3.0, width=48, height=64),
    dict(net="like_v1", prompts=PROMPTS[:1], seeds=[3], guidance_scale=1.0, scale=1.5),
    dict(net="like_v1", prompts=PROMPTS[1:2], seeds=[4], start=0.2, end=0.7, steps=6),
    dict(net="like_v1", prompts=PROMPTS[:1], seeds=[5], scale=0.0),
    dict(net="bgr", prompts=PROMPTS[:1], seeds=[6], scale=0.8),
    dict(net="single.safetensors", prompts=PROMPTS[1:2], seeds=[7]),
    dict(net="like_v1", prompts=PROMPTS[:1], seeds=[8], photo=True, strength=0.7, steps=8),
    dict(net="like_v1", prompts=PROMPTS[:2], seeds=[9, 10], photo=True, strength=0.5, steps=8, end=0.5, scale=0.7),
]


def original(tensors: dict, blocks: int) -> dict:
    """The names of the first ControlNets."""
    out = {}
    for key, value in tensors.items():
        if match := re.match(r"controlnet_down_blocks\.(\d+)\.(.*)", key):
            name = f"zero_convs.{match[1]}.0.{match[2]}"
        elif key.startswith("controlnet_mid_block."):
            name = key.replace("controlnet_mid_block.", "middle_block_out.0.")
        elif key.startswith("controlnet_cond_embedding.conv_in."):
            name = key.replace("controlnet_cond_embedding.conv_in.", "input_hint_block.0.")
        elif key.startswith("controlnet_cond_embedding.conv_out."):
            name = key.replace("controlnet_cond_embedding.conv_out.", f"input_hint_block.{2 * blocks + 2}.")
        elif match := re.match(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.*)", key):
            name = f"input_hint_block.{2 * int(match[1]) + 2}.{match[2]}"
        else:
            (name,) = single_file.unet({key: value}, 1)
        out[f"control_model.{name}"] = value.contiguous()
    return out


def nets(pipeline) -> dict:
    made = {}
    for number, (name, options) in enumerate(NETS.items()):
        net = ControlNetModel.from_unet(pipeline.unet, **options)
        randomize(net.eval(), 2000 + number)
        net.half().save_pretrained(OUT / name)
        made[name] = net.float()
    tensors = load_file(OUT / "like_v1" / "diffusion_pytorch_model.safetensors")
    file = OUT / "single.safetensors"
    save_file(original(tensors, 6), file)
    # What diffusers' own conversion makes of it are the tensors of the folder.
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    converted = convert_controlnet_checkpoint(load_file(file), {"layers_per_block": 1})
    for key, value in tensors.items():
        assert torch.equal(converted[key].reshape(value.shape), value), key
    made["single.safetensors"] = made["like_v1"]
    return made


def edges() -> None:
    generator = np.random.default_rng(5)
    noise = Image.fromarray(generator.integers(0, 256, (37, 53, 3), dtype=np.uint8))
    stairs = Image.fromarray((np.add.outer(np.arange(40) // 5, np.arange(31) // 4)[..., None] * np.array([9, 14, 11])).astype(np.uint8))
    faces = {name: Image.open(PHOTOS / f"{name}.png").convert("RGB") for name in ["face-027", "face-003"] if (PHOTOS / f"{name}.png").exists()}
    rows = []
    for name, picture in {"noise": noise, "stairs": stairs, "photo": photo(7, 61, 45), "one": noise.crop((0, 0, 1, 9)), **faces}.items():
        for low, high in [(100, 200), (20, 60), (300, 500)]:
            found = cv2.Canny(np.asarray(picture), low, high)
            row = dict(picture=f"../../../experiments/mini/photos/{name}.png" if name in faces else f"{name}.png", low=low, high=high, edges=f"edges_{name}_{low}.png")
            print(row["edges"], f"{(found > 0).mean():.3f}")
            Image.fromarray(found).save(OUT / row["edges"])
            rows.append(row)
        if name not in faces:
            picture.save(OUT / f"{name}.png")
    (OUT / "edges.json").write_text(json.dumps(rows, indent=1) + "\n")


def lines() -> None:
    """The lines that controlnet_aux's standard detector finds, at the picture's own size: what it does between its two resizings.
    At 512 x 512 there is nothing to resize, so there the detector itself must agree."""

    def found(picture: Image.Image) -> np.ndarray:
        values = np.asarray(picture, np.float32)
        darker = np.min(cv2.GaussianBlur(values, (0, 0), 6.0) - values, axis=2).clip(0, 255)
        strength = max(16, np.median(darker[darker > 8])) if (darker > 8).any() else 16
        return np.repeat((darker / strength * 127).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    if (package := importlib.util.find_spec("controlnet_aux")) is None:
        print("the detector itself is not asked: there is no controlnet_aux here")
    else:
        # Without its __init__, which imports all other detectors with their networks.
        sys.modules["controlnet_aux"] = types.ModuleType("controlnet_aux")
        sys.modules["controlnet_aux"].__path__ = package.submodule_search_locations
        from controlnet_aux.lineart_standard import LineartStandardDetector

        for seed in range(3):
            square = photo(seed, 512, 512)
            assert np.array_equal(found(square), np.asarray(LineartStandardDetector()(square)))
    stroke = Image.new("RGB", (70, 50), (250, 240, 200))
    for at in range(8, 44):
        stroke.putpixel((at + at % 5, at), (20, 30, 10))
    faces = {name: Image.open(PHOTOS / f"{name}.png").convert("RGB") for name in ["face-027", "face-003"]}
    stroke.save(OUT / "stroke.png")
    own = {name: Image.open(OUT / f"{name}.png") for name in ["noise", "stairs", "photo", "one", "stroke"]}
    rows = []
    for name, picture in (own | faces).items():
        row = dict(picture=f"../../../experiments/mini/photos/{name}.png" if name in faces else f"{name}.png", lines=f"lines_{name}.png")
        result = found(picture)
        print(row["lines"], f"{(result > 0).mean():.3f}, largest {result.max()}")
        Image.fromarray(result).save(OUT / row["lines"])
        rows.append(row)
    (OUT / "lines.json").write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    edges()
    lines()
    pipeline = StableDiffusionPipeline.from_pretrained(GOLDEN / "sd15" / "like_v1", dtype=torch.float32, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    made = nets(pipeline)
    rows = []
    for number, case in enumerate(CASES):
        kind = StableDiffusionControlNetImg2ImgPipeline if "photo" in case else StableDiffusionControlNetPipeline
        drawing = kind(**pipeline.components | {"controlnet": made[case["net"]]}, requires_safety_checker=False)
        drawing.set_progress_bar_config(disable=True)
        count = len(case["prompts"])
        steering = [photo(100 + 10 * number + i, 40, 56) for i in range(count)]
        options = dict(prompt=case["prompts"], num_inference_steps=case.get("steps", 4), guidance_scale=case.get("guidance_scale", 4.0), generator=[torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]], controlnet_conditioning_scale=case.get("scale", 1.0), control_guidance_start=case.get("start", 0.0), control_guidance_end=case.get("end", 1.0))
        row = {"scale": 1.0, "start": 0.0, "end": 1.0, "steps": 4, "guidance_scale": 4.0} | {key: value for key, value in case.items() if key != "photo"}
        if "photo" in case:
            photos = [photo(500 + 10 * number + i, 47, 61) for i in range(count)]
            options |= dict(image=photos, control_image=steering, strength=case["strength"])
            row["photos"] = [f"photo_{number}_{i}.png" for i in range(count)]
            for picture, name in zip(photos, row["photos"]):
                picture.save(OUT / name)
        else:
            options |= dict(image=steering) | {key: case[key] for key in ["width", "height"] if key in case}
        row["steering"] = [f"steering_{number}_{i}.png" for i in range(count)]
        for picture, name in zip(steering, row["steering"]):
            picture.save(OUT / name)
        with torch.no_grad():
            pictures = drawing(**options).images
            plain = drawing(**options | {"controlnet_conditioning_scale": 0.0, "generator": [torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]]}).images
        row["pictures"] = [f"picture_{number}_{i}.png" for i in range(count)]
        for picture, without, name in zip(pictures, plain, row["pictures"]):
            change = np.abs(np.asarray(picture, float) - np.asarray(without, float)).mean()
            print(name, picture.size, f"spread {np.asarray(picture).std():.0f}, changed by {change:.1f}")
            assert np.asarray(picture).std() > 15 and (change > 4 or case.get("scale") == 0.0)
            picture.save(OUT / name)
        rows.append(row)
    (OUT / "cases.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
