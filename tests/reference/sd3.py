"""Tiny random Stable Diffusion 3 pipelines in diffusers' layout, and what diffusers makes of them: tests/golden/sd3/.

Weights are stored in float16 to keep the files small; the reference computes in float32 from these same numbers.
"""

import json
import math
import shutil
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

import tiny_tokenizers

OUT = Path(__file__).parent.parent / "golden" / "sd3"
PROMPTS = [
    "a young woman with long red hair, oil painting",
    "An old man's portrait: black hat, pencil sketch!",
    "pixel art, " * 60,
]

# name: (clip_l, clip_g, t5 or None, transformer, vae, scheduler)
PIPELINES = {
    "with_t5": dict(
        clip_l=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, projection_dim=16, hidden_act="quick_gelu", eos_token_id=2),
        clip_g=dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=48, projection_dim=20, hidden_act="gelu", eos_token_id=2),
        t5=dict(d_model=48, d_kv=8, num_heads=4, d_ff=64, num_layers=2, feed_forward_proj="gated-gelu"),
        transformer=dict(sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=48, caption_projection_dim=32, pooled_projection_dim=36, pos_embed_max_size=20),
        vae=dict(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        scheduler=dict(shift=3.0),
    ),
    "without_t5": dict(
        clip_l=dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=32, projection_dim=24, hidden_act="quick_gelu"),
        clip_g=dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, projection_dim=8, hidden_act="gelu"),
        t5=None,
        transformer=dict(sample_size=10, patch_size=2, in_channels=8, out_channels=8, num_layers=3, attention_head_dim=8, num_attention_heads=3, joint_attention_dim=40, caption_projection_dim=24, pooled_projection_dim=32, pos_embed_max_size=12),
        vae=dict(block_out_channels=(8, 8, 16), layers_per_block=2, norm_num_groups=2, latent_channels=8, scaling_factor=0.9, shift_factor=-0.1, use_quant_conv=True, use_post_quant_conv=True),
        scheduler=dict(shift=2.0, use_dynamic_shifting=True, base_image_seq_len=16, max_image_seq_len=64),
    ),
    "like_sd35": dict(
        clip_l=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, projection_dim=8, hidden_act="quick_gelu"),
        clip_g=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=1, intermediate_size=32, projection_dim=8, hidden_act="gelu"),
        t5=dict(d_model=32, d_kv=12, num_heads=2, d_ff=48, num_layers=3, feed_forward_proj="relu"),
        transformer=dict(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=16, pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm"),
        vae=dict(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4, scaling_factor=1.2, shift_factor=0.05, use_quant_conv=False, use_post_quant_conv=True, mid_block_add_attention=False),
        scheduler=dict(shift=3.0),
    ),
    # Normalised queries and keys, and no second attention.
    "like_sd35_large": dict(
        clip_l=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, projection_dim=8, hidden_act="quick_gelu"),
        clip_g=dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=1, intermediate_size=32, projection_dim=8, hidden_act="gelu"),
        t5=None,
        transformer=dict(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=3, joint_attention_dim=40, caption_projection_dim=24, pooled_projection_dim=16, pos_embed_max_size=12, qk_norm="rms_norm"),
        vae=dict(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        scheduler=dict(shift=3.0),
    ),
}

CASES = [
    dict(pipeline="with_t5", prompts=PROMPTS[:1], seeds=[0]),
    dict(pipeline="with_t5", prompts=PROMPTS, seeds=[3, 4, 2**40], steps=6, width=40, height=24, guidance_scale=7.0, negative_prompt="yellow background, blurry"),
    dict(pipeline="with_t5", prompts=PROMPTS[:1], seeds=[5], steps=5, width=20, height=40, guidance_scale=1.0),
    dict(pipeline="without_t5", prompts=PROMPTS[1:2], seeds=[7], steps=10),
    dict(pipeline="without_t5", prompts=PROMPTS[:2], seeds=[8, 8], steps=4, width=48, height=24, guidance_scale=2.5),
    dict(pipeline="like_sd35", prompts=PROMPTS[:1], seeds=[1], steps=8, width=16, height=32),
    dict(pipeline="like_sd35", prompts=PROMPTS[:2], seeds=[11, 12], steps=5, guidance_scale=4.0, negative_prompt="hat"),
    dict(pipeline="with_t5", prompts=PROMPTS[:2], seeds=[1, 2], steps=10, width=32, height=24, images=2, strength=0.55),
    dict(pipeline="without_t5", prompts=PROMPTS[:1], seeds=[9], images=1),
    dict(pipeline="like_sd35_large", prompts=PROMPTS[:2], seeds=[13, 14], steps=6, width=16, height=24, guidance_scale=3.5),
    dict(pipeline="like_sd35_large", prompts=PROMPTS[1:2], seeds=[15], images=1, steps=8, strength=0.7),
]


def randomize(model: torch.nn.Module, seed: int, embedding: float = 1.0) -> None:
    """Weights strong enough that every part counts: the library's own are so weak that attention hardly does."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name and parameter.dim() == 1:
            value = (1.0 if name.endswith("weight") else 0.0) + 0.2 * noise
        elif parameter.dim() == 1:
            value = 0.1 * noise
        elif ("embed" in name and "time_embedding" not in name) or "shared" in name or "relative_attention_bias" in name:
            value = embedding * noise if parameter.dim() == 2 and "embedder" not in name else noise / math.sqrt(parameter[0].numel())
        else:
            value = 1.3 * noise / math.sqrt(parameter[0].numel())
        parameter.data = value.half().float()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = buffer.data.half().float()


def build(name: str) -> StableDiffusion3Pipeline:
    spec, folder, seed = PIPELINES[name], OUT / name, 100 * list(PIPELINES).index(name)
    shutil.rmtree(folder, ignore_errors=True)
    tiny_tokenizers.clip(folder / "tokenizer", merges=120)
    tiny_tokenizers.clip(folder / "tokenizer_2", merges=120, pad="!")
    tokenizers = [CLIPTokenizer.from_pretrained(folder / part) for part in ("tokenizer", "tokenizer_2")]
    vocab = len(tokenizers[0])
    eos = tokenizers[0].eos_token_id
    encoders = [
        CLIPTextModelWithProjection(CLIPTextConfig(**{"vocab_size": vocab, "bos_token_id": eos - 1, "eos_token_id": eos, "pad_token_id": 1, **spec[part]}))
        for part in ("clip_l", "clip_g")
    ]
    tokenizer_3 = t5 = None
    if spec["t5"]:
        tiny_tokenizers.spiece(folder / "tokenizer_3" / "spiece.model")
        tokenizer_3 = T5Tokenizer.from_pretrained(folder / "tokenizer_3")
        t5 = T5EncoderModel(T5Config(vocab_size=len(tokenizer_3), dropout_rate=0.0, **spec["t5"]))
    transformer = SD3Transformer2DModel(**spec["transformer"])
    vae = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * len(spec["vae"]["block_out_channels"]), up_block_types=["UpDecoderBlock2D"] * len(spec["vae"]["block_out_channels"]), sample_size=32, **spec["vae"])
    for i, model in enumerate([*encoders, transformer, vae] + ([t5] if t5 else [])):
        randomize(model.eval(), seed + i)
    pipeline = StableDiffusion3Pipeline(transformer, FlowMatchEulerDiscreteScheduler(**spec["scheduler"]), vae, encoders[0], tokenizers[0], encoders[1], tokenizers[1], t5, tokenizer_3)
    pipeline.set_progress_bar_config(disable=True)
    models = [m for m in [*encoders, t5, transformer, vae] if m is not None]
    for model in models:
        model.half()
    pipeline.save_pretrained(folder)
    for model in models:
        model.float()
    # The published layout: vocabulary files, no tokenizer.json. One pipeline keeps the newer form.
    if name != "like_sd35":
        for part in ("tokenizer", "tokenizer_2", "tokenizer_3"):
            if (folder / part).exists():
                shutil.rmtree(folder / part)
        tiny_tokenizers.clip(folder / "tokenizer", merges=120)
        tiny_tokenizers.clip(folder / "tokenizer_2", merges=120, pad="!")
        if spec["t5"]:
            tiny_tokenizers.spiece(folder / "tokenizer_3" / "spiece.model")
    return pipeline


def photo(seed: int, width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (4 + 3 * c) + c) * np.cos(y / (5 + 2 * c)) for c in range(3)]
    values = np.stack(waves, -1) * 100 + 128 + rng.normal(0, 12, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def components(pipeline: StableDiffusion3Pipeline, name: str) -> None:
    """Hidden states of every part, for two texts and a random latent that is not square."""
    out = {}
    prompts = PROMPTS[:2]
    for part in ("", "_2"):
        tokenizer, encoder = getattr(pipeline, f"tokenizer{part}"), getattr(pipeline, f"text_encoder{part}")
        ids = tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        result = encoder(ids, output_hidden_states=True)
        out[f"text_encoder{part}.ids"] = ids
        out[f"text_encoder{part}.penultimate"] = result.hidden_states[-2][:, ::4].clone()
        out[f"text_encoder{part}.last"] = result.last_hidden_state[:, ::4].clone()
        out[f"text_encoder{part}.pooled"] = result.text_embeds
    if pipeline.text_encoder_3 is not None:
        ids = pipeline.tokenizer_3(prompts, padding="max_length", max_length=256, truncation=True, return_tensors="pt").input_ids
        out["text_encoder_3.ids"] = ids
        out["text_encoder_3.states"] = pipeline.text_encoder_3(ids)[0][:, ::8].clone()
    embeds, negative, pooled, negative_pooled = pipeline.encode_prompt(prompts, None, None)
    generator = torch.Generator().manual_seed(77)
    channels = pipeline.transformer.config.in_channels
    latents = torch.randn(2, channels, 8, 12, generator=generator)
    times = torch.tensor([741.25, 741.25])
    out["transformer.latents"] = latents
    out["transformer.velocity"] = pipeline.transformer(latents, encoder_hidden_states=embeds, pooled_projections=pooled, timestep=times, return_dict=False)[0]
    picture = torch.rand(2, 3, 24, 16, generator=generator) * 2 - 1
    posterior = pipeline.vae.encode(picture).latent_dist
    out["vae.picture"] = picture
    out["vae.mean"], out["vae.deviation"] = posterior.mean, posterior.std
    out["vae.latents"] = torch.randn(2, channels, 6, 4, generator=generator)
    out["vae.decoded"] = pipeline.vae.decode(out["vae.latents"], return_dict=False)[0]
    for key, value in out.items():
        if value.is_floating_point():
            assert value.std() > 0.02, (key, value.std())
    save_file({key: value.contiguous() for key, value in out.items()}, OUT / f"{name}.safetensors")


def draw(pipelines: dict) -> None:
    rows = []
    for number, case in enumerate(CASES):
        pipeline = pipelines[case["pipeline"]]
        options = {
            "prompt": case["prompts"],
            "negative_prompt": None if "negative_prompt" not in case else [case["negative_prompt"]] * len(case["prompts"]),
            "num_inference_steps": case.get("steps"),
            "guidance_scale": case.get("guidance_scale"),
            "width": case.get("width"),
            "height": case.get("height"),
            "strength": case.get("strength"),
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]],
        }
        photos = []
        if "images" in case:
            components = {k: v for k, v in pipeline.components.items()}
            pipeline = StableDiffusion3Img2ImgPipeline(**components)
            pipeline.set_progress_bar_config(disable=True)
            photos = [photo(number * 10 + i, 45, 37) for i in range(case["images"])]
            options["image"] = photos
        pictures = pipeline(**{k: v for k, v in options.items() if v is not None}).images
        row = {k: v for k, v in case.items() if k != "images"} | {"pictures": [], "photos": []}
        for i, image in enumerate(photos):
            row["photos"].append(f"photo_{number}_{i}.png")
            image.save(OUT / row["photos"][-1])
        for i, picture in enumerate(pictures):
            spread = np.asarray(picture).std()
            assert spread > 15, f"case {number} is flat: {spread}"
            row["pictures"].append(f"picture_{number}_{i}.png")
            picture.save(OUT / row["pictures"][-1])
        if len(pictures) > 1:
            assert np.abs(np.asarray(pictures[0], float) - np.asarray(pictures[1], float)).mean() > 3
        rows.append(row)
    (OUT / "cases.json").write_text(json.dumps(rows, indent=1))


def bfloat16(pipeline: StableDiffusion3Pipeline) -> None:
    """One picture in bfloat16, noise included; weights are then used up."""
    pipeline.to(torch.bfloat16)
    picture = pipeline(
        PROMPTS[0], num_inference_steps=2, guidance_scale=2.0, width=16, height=24,
        generator=torch.Generator("cpu").manual_seed(21),
    ).images[0]
    picture.save(OUT / "bfloat16.png")


def embedded() -> None:
    """The embedded mini-sd3: `python sd3.py embedded` again whenever it is made anew."""
    folder = Path(__file__).parent.parent.parent / "experiments" / "mini" / "models" / "mini-sd3"
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(4)
    pipeline("an avatar with red hair, pixel art", num_inference_steps=6, generator=generator).images[0].save(OUT / "mini.png")


def main() -> None:
    torch.set_num_threads(1)
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    pipelines = {name: build(name) for name in PIPELINES}
    with torch.no_grad():
        for name, pipeline in pipelines.items():
            components(pipeline, name)
        draw(pipelines)
        bfloat16(pipelines["with_t5"])
        embedded()


if __name__ == "__main__":
    embedded() if sys.argv[1:] == ["embedded"] else main()
