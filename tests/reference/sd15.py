"""Tiny random Stable Diffusion pipelines in diffusers' layout, and what diffusers makes of them: tests/golden/sd15/.

Weights are stored in float16 to keep the files small; the reference computes in float32 from these same numbers.
"""

import json
import shutil
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import sd3
import tiny_tokenizers
from sd3 import PROMPTS, photo, randomize

OUT = Path(__file__).parent.parent / "golden" / "sd15"
NOISE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)

# As Stable Diffusion 1.5 is published, and with every option that is built here set to something else.
PIPELINES = {
    "like_v1": dict(
        clip=dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, hidden_act="quick_gelu", eos_token_id=2),
        unet=dict(sample_size=6, block_out_channels=(8, 16), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, attention_head_dim=2, cross_attention_dim=24, norm_num_groups=4),
        vae=dict(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4),
        scheduler=PNDMScheduler(skip_prk_steps=True, **{k: v for k, v in NOISE.items() if k != "clip_sample"}),
    ),
    "other": dict(
        clip=dict(hidden_size=20, num_hidden_layers=3, num_attention_heads=4, intermediate_size=32, hidden_act="gelu"),
        unet=dict(
            sample_size=8, block_out_channels=(8, 12, 16), norm_num_groups=4, norm_eps=1e-3, act_fn="gelu",
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=(2, 1, 1), transformer_layers_per_block=(1, 2, 1), attention_head_dim=(2, 3, 4), cross_attention_dim=20,
            use_linear_projection=True, upcast_attention=True, flip_sin_to_cos=False, freq_shift=1, downsample_padding=0,
            center_input_sample=True, mid_block_scale_factor=1.4, conv_in_kernel=5, conv_out_kernel=1, time_embedding_dim=28,
        ),
        vae=dict(block_out_channels=(4, 8, 16), layers_per_block=2, norm_num_groups=2, scaling_factor=0.3, use_quant_conv=True, use_post_quant_conv=False),
        scheduler=DDIMScheduler(prediction_type="v_prediction", **NOISE),
    ),
}
# A net without attention in its middle, by itself.
PLAIN_MIDDLE = dict(sample_size=8, block_out_channels=(8, 12), norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), mid_block_type="UNetMidBlock2D", up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=2, attention_head_dim=4, cross_attention_dim=24)

NEGATIVE = "yellow background, blurry"
# Text to picture (width and height), then photo to picture (sizes of the photos).
CASES = [
    dict(pipeline="like_v1", prompts=PROMPTS[:1], seeds=[0]),
    dict(pipeline="like_v1", prompts=PROMPTS, seeds=[3, 4, 2**40], steps=6, width=72, height=40, negative_prompt=NEGATIVE),
    dict(pipeline="like_v1", prompts=PROMPTS[:1], seeds=[5], steps=5, width=40, height=64, guidance_scale=1.0),
    dict(pipeline="other", prompts=PROMPTS[1:2], seeds=[7], steps=10),
    dict(pipeline="other", prompts=PROMPTS[:2], seeds=[8, 8], steps=4, width=48, height=24, guidance_scale=2.5, negative_prompt="hat"),
    dict(pipeline="like_v1", prompts=PROMPTS[:1], seeds=[9], photos=[(75, 45)]),
    dict(pipeline="like_v1", prompts=PROMPTS[:2], seeds=[1, 2], steps=10, photos=[(45, 77), (45, 77)], strength=0.6, negative_prompt=NEGATIVE),
    dict(pipeline="like_v1", prompts=PROMPTS[:1], seeds=[4], steps=10, photos=[(64, 64)], strength=0.3),
    dict(pipeline="like_v1", prompts=PROMPTS[1:2], seeds=[6], steps=6, photos=[(50, 49)], strength=1.0, guidance_scale=1.0),
    dict(pipeline="other", prompts=PROMPTS[:1], seeds=[5], steps=12, photos=[(35, 50)], strength=0.8),
    dict(pipeline="other", prompts=PROMPTS[:2], seeds=[5, 6], steps=5, photos=[(40, 30), (40, 30)], strength=0.6, guidance_scale=1.0),
    # Steps that draw noise of their own, each picture from its own generator.
    dict(pipeline="like_v1", prompts=PROMPTS[:2], seeds=[1, 2], steps=5, scheduler="euler-ancestral"),
    dict(pipeline="like_v1", prompts=PROMPTS[:2], seeds=[3, 4], steps=8, photos=[(48, 48), (48, 48)], strength=0.5, scheduler="euler-ancestral"),
    # Two looks at the picture a step: where a photo's part begins is counted in steps.
    dict(pipeline="like_v1", prompts=PROMPTS[:2], seeds=[11, 12], steps=5, scheduler="heun", negative_prompt=NEGATIVE),
    dict(pipeline="like_v1", prompts=PROMPTS[:1], seeds=[13], steps=8, photos=[(52, 44)], strength=0.5, scheduler="heun"),
    # DDIM with noise of its own.
    dict(pipeline="other", prompts=PROMPTS[:2], seeds=[3, 4], steps=5, eta=0.5),
    dict(pipeline="other", prompts=PROMPTS[:2], seeds=[5, 6], steps=8, photos=[(40, 30), (40, 30)], strength=0.6, eta=1.0, negative_prompt=NEGATIVE),
]
SCHEDULERS = {"euler-ancestral": EulerAncestralDiscreteScheduler, "heun": HeunDiscreteScheduler}


def unet(config: dict, seed: int) -> UNet2DConditionModel:
    net = UNet2DConditionModel(**config)
    randomize(net.eval(), seed)
    # An output of about unit size, as that of a trained net.
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        sample = torch.randn(2, net.config.in_channels, 8, 8, generator=generator)
        dims = net.config.cross_attention_dim
        out = net(sample, torch.tensor([500, 500]), torch.randn(2, 77, dims, generator=generator)).sample
        net.conv_out.weight.data = (net.conv_out.weight / out.std()).half().float()
    return net


def checked_pictures() -> list:
    return [photo(500 + i, *size) for i, size in enumerate([(64, 64), (72, 40), (40, 72), (33, 57), (20, 90), (90, 34), (56, 56), (88, 64)])]


DRAWN = dict(prompt=PROMPTS[0], num_inference_steps=3, width=64, height=64)


@torch.no_grad()
def safety_checker(folder: Path, pipeline: StableDiffusionPipeline) -> tuple[StableDiffusionSafetyChecker, CLIPImageProcessor]:
    vision = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, image_size=32, patch_size=8, projection_dim=20, hidden_act="quick_gelu")
    config = CLIPConfig(vision_config=vision, text_config=dict(hidden_size=16, num_hidden_layers=1), projection_dim=20)
    checker = StableDiffusionSafetyChecker(config)
    randomize(checker.eval(), 70)
    extractor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    # Thresholds near what pictures reach, so that the checker fires for some of them only.
    pictures = checked_pictures() + [pipeline(**DRAWN, generator=torch.Generator().manual_seed(seed)).images[0] for seed in range(8)]
    embeds = checker.visual_projection(checker.vision_model(extractor(pictures, return_tensors="pt").pixel_values)[1])
    margin = 0.02 * torch.rand(17, generator=torch.Generator().manual_seed(71))
    concepts = cosine_distance(embeds, checker.concept_embeds)
    thresholds = torch.maximum(concepts.max(0).values + margin - 0.004, concepts[8:].max(0).values + 0.015)
    # One concept parts the drawn pictures, in the widest gap between two of them.
    gaps = concepts[8:].sort(0).values.diff(dim=0)[2:5]
    step, concept = divmod(int(gaps.argmax()), 17)
    thresholds[concept] = concepts[8:, concept].sort().values[step + 2 : step + 4].mean()
    checker.concept_embeds_weights.data = thresholds.half().float()
    special = cosine_distance(embeds, checker.special_care_embeds)
    checker.special_care_embeds_weights.data = special.quantile(torch.tensor([0.5, 0.8, 0.95]), dim=0).diagonal().half().float()
    checker.half().save_pretrained(folder / "safety_checker")
    extractor.save_pretrained(folder / "feature_extractor")
    return checker.float(), extractor


def old_names(folder: Path) -> None:
    """The layout of the published checkpoint: old names in the autoencoder, no tokenizer.json, older keys of CLIP."""
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(key: str) -> str:
        for new, old in names.items():
            key = key.replace(new, old)
        return key

    save_file({rename(key): value for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    file = folder / "safety_checker" / "model.safetensors"
    tensors = {}
    for key, value in load_file(file).items():
        if key.startswith("vision_model.") and not key.startswith("vision_model.vision_model."):
            key = "vision_model." + key
        tensors[key] = value
    tensors["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(tensors, file, metadata={"format": "pt"})
    file = folder / "vae" / "config.json"
    config = json.loads(file.read_text())
    for key in ["scaling_factor", "force_upcast", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention", "shift_factor", "latents_mean", "latents_std"]:
        config.pop(key, None)
    file.write_text(json.dumps(config, indent=2))
    # Options that were not there yet: another solver that is switched to has its own default.
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    for key in ["timestep_spacing", "prediction_type"]:
        config.pop(key)
    file.write_text(json.dumps(config, indent=2))


def build(name: str) -> StableDiffusionPipeline:
    spec, folder, seed = PIPELINES[name], OUT / name, 1000 + 100 * list(PIPELINES).index(name)
    tiny_tokenizers.clip(folder / "tokenizer", merges=120)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    eos = tokenizer.eos_token_id
    text_encoder = CLIPTextModel(CLIPTextConfig(**{"vocab_size": len(tokenizer), "bos_token_id": eos - 1, "eos_token_id": eos, "pad_token_id": 1, **spec["clip"]}))
    blocks = len(spec["vae"]["block_out_channels"])
    vae = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * blocks, up_block_types=["UpDecoderBlock2D"] * blocks, latent_channels=4, sample_size=32, **spec["vae"])
    randomize(text_encoder.eval(), seed)
    randomize(vae.eval(), seed + 1)
    net = unet(spec["unet"], seed + 2)
    pipeline = StableDiffusionPipeline(vae, text_encoder, tokenizer, net, spec["scheduler"], None, None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    checker = None
    if name == "like_v1":
        checker, extractor = safety_checker(folder, pipeline)
        pipeline.register_modules(safety_checker=checker, feature_extractor=extractor)
    models = [model for model in [text_encoder, vae, net, checker] if model is not None]
    for model in models:
        model.half()
    pipeline.save_pretrained(folder)
    for model in models:
        model.float()
    if name == "like_v1":
        shutil.rmtree(folder / "tokenizer")
        tiny_tokenizers.clip(folder / "tokenizer", merges=120)
        old_names(folder)
    return pipeline


def components(pipeline: StableDiffusionPipeline, name: str) -> None:
    """Hidden states of every part, for two texts and a random latent with odd sides."""
    out = {}
    ids = pipeline.tokenizer(PROMPTS[:2], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    out["text_encoder.ids"] = ids
    states = pipeline.text_encoder(ids)[0]
    out["text_encoder.states"] = states[:, ::4].clone()
    generator = torch.Generator().manual_seed(77)
    out["unet.latents"] = torch.randn(2, 4, 9, 6, generator=generator)
    for time in [1, 741, 999]:
        out[f"unet.{time}"] = pipeline.unet(out["unet.latents"], time, encoder_hidden_states=states).sample
    side = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    out["vae.picture"] = torch.rand(2, 3, 3 * side, 2 * side, generator=generator) * 2 - 1
    posterior = pipeline.vae.encode(out["vae.picture"]).latent_dist
    out["vae.mean"], out["vae.deviation"] = posterior.mean, posterior.std
    out["vae.latents"] = torch.randn(2, 4, 3, 2, generator=generator)
    out["vae.decoded"] = pipeline.vae.decode(out["vae.latents"], return_dict=False)[0]
    for key, value in out.items():
        assert not value.is_floating_point() or value.std() > 0.02, (key, value.std())
    save_file({key: value.contiguous() for key, value in out.items()}, OUT / f"{name}.safetensors")


def plain_middle() -> None:
    folder = OUT / "plain_middle"
    net = unet(PLAIN_MIDDLE, 60)
    net.half().save_pretrained(folder)
    net.float()
    generator = torch.Generator().manual_seed(61)
    latents, states = torch.randn(1, 4, 8, 10, generator=generator), torch.randn(1, 9, 24, generator=generator)
    out = net(latents, 321, encoder_hidden_states=states).sample
    save_file({"latents": latents, "states": states, "out": out.contiguous()}, OUT / "plain_middle.safetensors")


def draw(pipelines: dict) -> None:
    rows = []
    for number, case in enumerate(CASES):
        pipeline = pipelines[case["pipeline"]]
        parts = {key: value for key, value in pipeline.components.items() if key not in ["safety_checker", "feature_extractor", "image_encoder"]}
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        if "scheduler" in case:
            config = type(pipeline.scheduler).from_pretrained(OUT / case["pipeline"], subfolder="scheduler").config
            parts["scheduler"] = SCHEDULERS[case["scheduler"]].from_config(config)
        pipeline = (StableDiffusionImg2ImgPipeline if "photos" in case else StableDiffusionPipeline)(**parts)
        pipeline.set_progress_bar_config(disable=True)
        options = {
            "prompt": case["prompts"],
            "negative_prompt": None if "negative_prompt" not in case else [case["negative_prompt"]] * len(case["prompts"]),
            "num_inference_steps": case.get("steps"),
            "guidance_scale": case.get("guidance_scale"),
            "width": case.get("width"),
            "height": case.get("height"),
            "strength": case.get("strength"),
            "eta": case.get("eta"),
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]],
        }
        photos = [photo(number * 10 + i, *size) for i, size in enumerate(case.get("photos", []))]
        if photos:
            options["image"] = photos
        pictures = pipeline(**{key: value for key, value in options.items() if value is not None}).images
        row = {key: value for key, value in case.items() if key != "photos"} | {"pictures": [], "photos": []}
        for i, image in enumerate(photos):
            row["photos"].append(f"photo_{number}_{i}.png")
            image.save(OUT / row["photos"][-1])
        for i, picture in enumerate(pictures):
            values = np.asarray(picture)
            clipped = ((values == 0) | (values == 255)).mean()
            print(number, i, picture.size, f"spread {values.std():.0f}, clipped {clipped:.2f}")
            assert values.std() > 15 and clipped < 0.3, f"case {number} says little"
            row["pictures"].append(f"picture_{number}_{i}.png")
            picture.save(OUT / row["pictures"][-1])
        if len(pictures) > 1:
            assert np.abs(np.asarray(pictures[0], float) - np.asarray(pictures[1], float)).mean() > 3
        rows.append(row)
    (OUT / "cases.json").write_text(json.dumps(rows, indent=1))


def decisions(checker: StableDiffusionSafetyChecker, embeds: torch.Tensor, adjusted: bool = True) -> list:
    """What the library decides of these embeddings; `adjusted`: with what special care adds."""
    parts = checker.vision_model, checker.visual_projection, checker.special_care_embeds_weights.data
    del checker.vision_model, checker.visual_projection
    checker.vision_model, checker.visual_projection = (lambda x: (None, x)), (lambda x: x)
    if not adjusted:
        checker.special_care_embeds_weights.data = parts[2] + 10
    flags = [checker(clip_input=row[None], images=[np.zeros((1, 1, 3))])[1][0] for row in embeds]
    del checker.vision_model, checker.visual_projection
    checker.vision_model, checker.visual_projection, checker.special_care_embeds_weights.data = parts
    return flags


def safety(pipeline: StableDiffusionPipeline) -> None:
    """What the checker says of pictures of many sizes, of embeddings near its thresholds, and of pictures that are drawn."""
    checker, extractor = pipeline.safety_checker, pipeline.feature_extractor
    pictures = checked_pictures()
    for i, picture in enumerate(pictures):
        picture.save(OUT / f"checked_{i}.png")
    pixels = extractor(pictures, return_tensors="pt").pixel_values
    embeds = checker.visual_projection(checker.vision_model(pixels)[1])
    flags = decisions(checker, embeds)
    assert 2 <= sum(flags) <= len(flags) - 2, flags
    near = embeds.repeat(40, 1) + 0.05 * embeds.std() * torch.randn(320, 20, generator=torch.Generator().manual_seed(72))
    near_flags, plain = decisions(checker, near), decisions(checker, near, adjusted=False)
    print("flags", flags, "near", sum(near_flags), "but for special care", sum(plain))
    assert sum(near_flags) - sum(plain) > 5
    special, concepts = cosine_distance(embeds, checker.special_care_embeds), cosine_distance(embeds, checker.concept_embeds)
    out = {"pixels": pixels, "embeds": embeds, "special": special, "concepts": concepts, "flags": torch.tensor(flags)}
    out |= {"near": near, "near_flags": torch.tensor(near_flags)}
    save_file({key: value.contiguous() for key, value in out.items()}, OUT / "safety.safetensors")
    drawn = []
    for seed in range(8):
        result = pipeline(**DRAWN, generator=torch.Generator().manual_seed(seed))
        drawn.append(result.nsfw_content_detected[0])
        assert (np.asarray(result.images[0]).max() == 0) == drawn[-1]
    print("drawn", drawn)
    assert 0 < sum(drawn) < len(drawn)
    (OUT / "safety.json").write_text(json.dumps({"prompt": PROMPTS[0], "steps": 3, "size": 64, "flags": drawn}))


def float16(pipeline: StableDiffusionPipeline) -> None:
    """Pictures in float16, noise included, from noise and from a photo; weights are then used up."""
    parts = pipeline.components | {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    options = dict(prompt=PROMPTS[0], num_inference_steps=3, guidance_scale=2.0)
    for kind, extra in [(StableDiffusionPipeline, dict(width=40, height=48)), (StableDiffusionImg2ImgPipeline, dict(image=photo(600, 48, 40), strength=0.7))]:
        drawing = kind(**parts).to(torch.float16)
        drawing.set_progress_bar_config(disable=True)
        picture = drawing(**options, **extra, generator=torch.Generator("cpu").manual_seed(21)).images[0]
        picture.save(OUT / ("float16_photo.png" if "image" in extra else "float16.png"))
    photo(600, 48, 40).save(OUT / "float16_from.png")


@torch.no_grad()
def embedded() -> None:
    """The embedded mini-sd-v1-5, from noise and from a photo: `python sd15.py embedded` again whenever it is made anew."""
    mini = Path(__file__).parent.parent.parent / "experiments" / "mini"
    pipeline = StableDiffusionPipeline.from_pretrained(mini / "models" / "mini-sd-v1-5", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    options = dict(prompt="an avatar with red hair, pixel art", num_inference_steps=6)
    pipeline(**options, generator=torch.Generator("cpu").manual_seed(4)).images[0].save(OUT / "mini.png")
    pipeline = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    photo = Image.open(mini / "photos" / "face-001.png").convert("RGB")
    pipeline(**options, image=photo, strength=0.6, generator=torch.Generator("cpu").manual_seed(4)).images[0].save(OUT / "mini_photo.png")


def main() -> None:
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    pipelines = {name: build(name) for name in PIPELINES}
    with torch.no_grad():
        for name, pipeline in pipelines.items():
            components(pipeline, name)
        plain_middle()
        draw(pipelines)
        safety(pipelines["like_v1"])
        float16(pipelines["like_v1"])
        embedded()


if __name__ == "__main__":
    torch.set_num_threads(1)
    embedded() if sys.argv[1:] == ["embedded"] else main()
