"""Tiny random LoRA files in every layout for the tiny pipelines of tests/golden/sd15 and sd3 (run sd15.py and sd3.py first), and
the pictures that diffusers draws with them: tests/golden/lora/.

Pictures are drawn twice, with `load_lora_weights` and `set_adapters` where diffusers reads the layout as it was trained, and with the
products of the matrices added to the weights here. Both must agree; where diffusers does not read a layout (`reads=False`: original
names of Stable Diffusion 3, Tucker convolutions, names without a network, different alphas in a text encoder), the second counts.

Needs peft 0.21 and transformers 5.17 beside diffusers 0.42.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file

import single_file
from sd3 import PROMPTS, photo

GOLDEN = Path(__file__).parent.parent / "golden"
OUT = GOLDEN / "lora"
PREFIX = {"unet": "lora_unet", "transformer": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2", "text_encoder_3": "lora_te3"}


class Layer:
    """An adapter of one layer: its matrices, and what their product is multiplied with."""

    def __init__(self, part: str, name: str, weight: torch.Size, rank: int, seed: int, alpha: float | None = None, tucker: bool = False, strength: float = 0.35):
        generator = torch.Generator().manual_seed(seed)
        # A difference of about `strength` times a weight of these nets.
        random = lambda *shape: torch.randn(*shape, generator=generator)
        self.part, self.name, self.alpha, self.rank, self.mid = part, name, alpha, rank, None
        out, rest = weight[0], list(weight[1:])
        size = strength / math.sqrt(math.prod(rest) * rank) / (1 if alpha is None else alpha / rank)
        self.down, self.up = random(rank, *rest), random(out, rank, *[1] * len(rest[1:])) * size
        if tucker:
            self.down, self.mid = random(rank, rest[0], 1, 1), random(rank, rank, *rest[1:]) / math.sqrt(rank)
        for key in ["down", "up", "mid"]:
            if getattr(self, key) is not None:
                setattr(self, key, getattr(self, key).half().float())

    def difference(self) -> torch.Tensor:
        scale = 1.0 if self.alpha is None else self.alpha / self.rank
        if self.mid is not None:
            return scale * torch.einsum("oa,abhw,bi->oihw", self.up[:, :, 0, 0], self.mid, self.down[:, :, 0, 0])
        return scale * (self.up.flatten(1) @ self.down.flatten(1)).reshape(self.up.shape[0], *self.down.shape[1:])


def weights(pipeline, part: str, ends: tuple[str, ...]) -> dict[str, torch.Size]:
    """The layers of a network whose names end so, in the order of their names."""
    modules = sorted(getattr(pipeline, part).named_modules())
    layers = {name: module.weight.shape for name, module in modules if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and name.endswith(ends)}
    assert all(any(name.endswith(end) for name in layers) for end in ends), (part, ends)
    return layers


def adapters(pipeline, parts: dict[str, tuple[str, ...]], seed: int, rank, alpha=lambda i: None, **options) -> list[Layer]:
    out = []
    for part, ends in parts.items():
        for name, shape in weights(pipeline, part, ends).items():
            i = len(out)
            out.append(Layer(part, name, shape, rank(i), seed + i, alpha(i), tucker=options.get("tucker", False) and shape[-1] == 3 and len(shape) == 4, strength=options.get("strength", 0.35)))
    return out


# The ways to write them down.


def text_names(layer: Layer) -> str:
    """Text encoders are called as before transformers 5."""
    return f"text_model.{layer.name}" if layer.part in ["text_encoder", "text_encoder_2"] and layer.name.startswith("encoder.") else layer.name


def peft(layers: list[Layer]) -> dict:
    out = {}
    for layer in layers:
        out[f"{layer.part}.{text_names(layer)}.lora_A.weight"] = layer.down
        out[f"{layer.part}.{text_names(layer)}.lora_B.weight"] = layer.up
    return out


def diffusers_names(layers: list[Layer]) -> dict:
    out = {}
    for layer in layers:
        middle = "lora_linear_layer" if layer.part.startswith("text") else "lora"
        out[f"{layer.part}.{text_names(layer)}.{middle}.down.weight"] = layer.down
        out[f"{layer.part}.{text_names(layer)}.{middle}.up.weight"] = layer.up
    return out


def processors(layers: list[Layer], prefix: bool = True) -> dict:
    """Of attention processors."""
    out = {}
    for layer in layers:
        attention, last = text_names(layer).removesuffix(".0").rsplit(".", 1)
        last = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}.get(last, last)
        inner = "" if layer.part.startswith("text") else ".processor"
        outer = f"{layer.part}." if prefix else ""
        out[f"{outer}{attention}{inner}.{last}_lora.down.weight"] = layer.down
        out[f"{outer}{attention}{inner}.{last}_lora.up.weight"] = layer.up
    return out


def kohya(layers: list[Layer], te: str = "lora_te1", originals: dict[str, str] | None = None, outer: str | None = None) -> dict:
    out = {}
    for layer in layers:
        prefix = te if layer.part == "text_encoder" else PREFIX[layer.part]
        name = (originals or {}).get(layer.name, text_names(layer))
        key = f"{prefix}_{name}".replace(".", "_") if outer is None or layer.part.startswith("text") else f"{outer}.{name}"
        out[f"{key}.lora_down.weight"], out[f"{key}.lora_up.weight"] = layer.down, layer.up
        if layer.mid is not None:
            out[f"{key}.lora_mid.weight"] = layer.mid
        if layer.alpha is not None:
            out[f"{key}.alpha"] = torch.tensor(layer.alpha)
    return out


def unet_originals(pipeline) -> dict[str, str]:
    """diffusers' names of layers → the original ones."""
    originals = {}
    table = {key: torch.tensor(i) for i, key in enumerate(pipeline.unet.state_dict())}
    back = {int(value): key for key, value in single_file.unet(table, pipeline.unet.config.layers_per_block).items()}
    for key, value in table.items():
        if key.endswith(".weight"):
            originals[key.removesuffix(".weight")] = back[int(value)].removesuffix(".weight")
    return originals


def original_sd3(pipeline, seed: int, rank, alpha, ends: tuple[str, ...]) -> tuple[list[Layer], list[tuple[str, str, torch.Tensor]]]:
    """Adapters of the transformer's layers in the original layout, queries, keys and values in one; and what each comes to in
    diffusers' layout."""
    numbers, start = {}, 1.0
    for key, value in pipeline.transformer.state_dict().items():
        if key.endswith(".weight") and value.dim() > 1:
            numbers[key] = (start + torch.arange(len(value), dtype=torch.float64))[:, None].expand(len(value), value[0].numel()).reshape(value.shape)
            start += len(value)
    originals = single_file.transformer(numbers)
    layers, differences = [], []
    for i, name in enumerate(sorted(originals)):
        layer_name = name.removesuffix(".weight")
        if not layer_name.endswith(ends):
            continue
        layer = Layer("transformer", layer_name, originals[name].shape, rank(i), seed + i, alpha(i))
        layers.append(layer)
        # Each row of the original says which row of which weight it is.
        rows = originals[name].flatten(1)[:, 0]
        difference = layer.difference()
        for key, own in numbers.items():
            own_rows = own.flatten(1)[:, 0]
            places = [(rows == row).nonzero() for row in own_rows]
            if all(len(place) for place in places):
                differences.append(("transformer", key.removesuffix(".weight"), difference[torch.cat(places)[:, 0]]))
    assert len({name for _, name, _ in differences}) == len(differences) >= len(layers)
    return layers, differences


def file_of(name: str, tensors: dict, metadata: dict | None = None) -> None:
    path = OUT / name
    if path.suffix == ".safetensors":
        header = {"format": "pt"} | ({} if metadata is None else {"lora_adapter_metadata": json.dumps(metadata, indent=2, sort_keys=True)})
        save_file({key: value.contiguous().half() if "alpha" not in key else value for key, value in tensors.items()}, path, metadata=header)
    else:
        torch.save({key: value.contiguous().half() for key, value in tensors.items()}, path)


def trained(pipeline, name: str, parts: dict[str, tuple[str, ...]], seed: int, **options) -> list[tuple[str, str, torch.Tensor]]:
    """A file that diffusers itself writes, with what PEFT notes of the training."""
    states, metadata, differences = {}, {}, []
    for part, ends in parts.items():
        model = getattr(pipeline, part)
        config = LoraConfig(target_modules=list(weights(pipeline, part, ends)), init_lora_weights=False, **options)
        model.add_adapter(config, adapter_name="new")
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in model.named_parameters():
            if ".lora_" in key:
                # As strong as the other ones, whatever alpha is.
                scale = 1.0 if "lora_A" in key else 0.35 / math.sqrt(parameter.shape[1]) / 3
                parameter.data = (scale * torch.randn(parameter.shape, generator=generator)).half().float()
        for key, module in model.named_modules():
            if hasattr(module, "lora_A") and "new" in module.lora_A:
                product = (module.lora_B["new"].weight.flatten(1) @ module.lora_A["new"].weight.flatten(1)) * module.scaling["new"]
                differences.append((part, key, product.detach().reshape(module.base_layer.weight.shape)))
        states[part] = {key: value.detach().clone() for key, value in get_peft_model_state_dict(model, adapter_name="new").items()}
        # The folder that the model was read from says nothing to others.
        model.peft_config["new"].base_model_name_or_path = None
        metadata[part] = json.loads(json.dumps(model.peft_config["new"].to_dict(), default=lambda value: sorted(value) if isinstance(value, set) else str(value)))
        model.delete_adapter("new") if hasattr(model, "delete_adapter") else None
    kind = type(pipeline)
    layers = {f"{part}_lora_layers": states[part] for part in states} | {f"{part}_lora_adapter_metadata": metadata[part] for part in states}
    kind.save_lora_weights(OUT, weight_name=name, **layers)
    return differences


def open_pipeline(name: str):
    kind = StableDiffusionPipeline if name.startswith("sd15") else StableDiffusion3Pipeline
    options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False} if name.startswith("sd15") else {}
    pipeline = kind.from_pretrained(GOLDEN / name, dtype=torch.float32, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make() -> dict:
    """All files: file → (pipeline, differences by part and layer, whether diffusers reads it)."""
    made = {}

    def add(file: str, pipeline: str, layers: list[Layer], tensors: dict, reads: bool = True) -> None:
        file_of(file, tensors)
        made[file] = (pipeline, [(layer.part, layer.name, layer.difference()) for layer in layers], reads)

    three = lambda i: [2, 3, 4][i % 3]
    name = "sd15/like_v1"
    pipeline = open_pipeline(name)
    attention = ("to_q", "to_k", "to_v", "to_out.0")
    text = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
    every = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv", "conv_in", "conv_out", "linear_1", "linear_2")
    layers = adapters(pipeline, {"unet": attention, "text_encoder": text}, 100, three)
    add("sd15_peft.safetensors", name, layers, peft(layers))
    layers = adapters(pipeline, {"unet": attention + ("ff.net.0.proj", "proj_in", "conv1"), "text_encoder": text}, 300, lambda i: 4)
    add("sd15_diffusers.safetensors", name, layers, diffusers_names(layers))
    layers = adapters(pipeline, {"unet": attention, "text_encoder": text[:4]}, 500, lambda i: 2)
    add("sd15_processors.safetensors", name, layers, processors(layers))
    layers = adapters(pipeline, {"unet": attention}, 600, lambda i: 4)
    add("sd15_without_network.bin", name, layers, processors(layers, prefix=False), reads=False)
    layers = adapters(pipeline, {"unet": every, "text_encoder": text}, 700, lambda i: 4, lambda i: 2.0)
    add("sd15_kohya.safetensors", name, layers, kohya(layers, te="lora_te"))
    layers = adapters(pipeline, {"unet": every, "text_encoder": text}, 1000, three, lambda i: [1.0, 4.0, 2.5][i % 3])
    add("sd15_kohya_alphas.pt", name, layers, kohya(layers), reads=False)
    layers = adapters(pipeline, {"unet": every}, 1300, lambda i: 3, lambda i: 1.5)
    add("sd15_kohya_original.safetensors", name, layers, kohya(layers, originals=unet_originals(pipeline)), reads=False)
    layers = adapters(pipeline, {"unet": ("conv1", "conv2", "to_k")}, 1600, lambda i: 3, lambda i: 3.0, tucker=True, strength=0.6)
    add("sd15_tucker.safetensors", name, layers, kohya(layers), reads=False)
    differences = trained(pipeline, "sd15_trained.safetensors", {"unet": ("to_q", "to_k", "to_out.0", "conv1"), "text_encoder": ("q_proj", "fc1")}, 1700, r=4, lora_alpha=6, rank_pattern={"to_k": 2}, alpha_pattern={"attn1.to_k": 3, "attn2.to_k": 5})
    made["sd15_trained.safetensors"] = (name, differences, True)
    pipeline = open_pipeline(name)
    differences = trained(pipeline, "sd15_stabilised.safetensors", {"unet": ("to_q", "to_v", "ff.net.2")}, 1800, r=4, lora_alpha=6, use_rslora=True, rank_pattern={"to_v": 3})
    made["sd15_stabilised.safetensors"] = (name, differences, True)

    name = "sd15/other"
    pipeline = open_pipeline(name)
    layers = adapters(pipeline, {"unet": every, "text_encoder": text}, 2000, lambda i: 2, lambda i: 1.0)
    add("sd15_other_kohya.safetensors", name, layers, kohya(layers, te="lora_te"))
    layers = adapters(pipeline, {"unet": attention}, 2500, three)
    add("sd15_other_peft.safetensors", name, layers, peft(layers))

    name = "sd3/with_t5"
    pipeline = open_pipeline(name)
    both = attention + ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    more = both + ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out", "context_embedder", "linear_1", "pos_embed.proj")
    layers = adapters(pipeline, {"transformer": more, "text_encoder": text, "text_encoder_2": text}, 3000, three)
    add("sd3_peft.safetensors", name, layers, peft(layers))
    layers = adapters(pipeline, {"transformer": both}, 3300, lambda i: 4)
    add("sd3_diffusers.safetensors", name, layers, diffusers_names(layers))
    originals = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1", "context_embedder", "t_embedder.mlp.0", "y_embedder.mlp.2", "final_layer.linear", "x_embedder.proj")
    layers, differences = original_sd3(pipeline, 3500, three, lambda i: [1.0, 4.0][i % 2], originals)
    texts = adapters(pipeline, {"text_encoder": text, "text_encoder_2": text, "text_encoder_3": ("SelfAttention.q", "DenseReluDense.wi_0", "DenseReluDense.wo")}, 3700, lambda i: 2, lambda i: 1.0)
    file_of("sd3_kohya.safetensors", kohya(layers + texts))
    made["sd3_kohya.safetensors"] = (name, differences + [(layer.part, layer.name, layer.difference()) for layer in texts], False)
    layers, differences = original_sd3(pipeline, 3900, lambda i: 3, lambda i: 3.0, ("attn.qkv", "mlp.fc1"))
    file_of("sd3_comfyui.safetensors", kohya(layers, outer="diffusion_model"))
    made["sd3_comfyui.safetensors"] = (name, differences, False)

    name = "sd3/like_sd35"
    pipeline = open_pipeline(name)
    differences = trained(pipeline, "sd3_like_sd35_trained.safetensors", {"transformer": ("to_q", "to_v", "add_k_proj", "ff.net.2"), "text_encoder": ("q_proj",), "text_encoder_2": ("v_proj", "fc2")}, 4000, r=3, lora_alpha=5, rank_pattern={"to_v": 2})
    made["sd3_like_sd35_trained.safetensors"] = (name, differences, True)
    pipeline = open_pipeline(name)
    layers, differences = original_sd3(pipeline, 4100, three, lambda i: 2.0, ("attn.qkv", "attn2.qkv", "attn2.proj", "adaLN_modulation.1"))
    file_of("sd3_like_sd35_kohya.safetensors", kohya(layers))
    made["sd3_like_sd35_kohya.safetensors"] = (name, differences, False)
    return made


# Weights of 0, 0.7, 1 and less than nothing, two at once, text to picture and photo to picture.
TWO = [("sd15_kohya.safetensors", 0.7), ("sd15_peft.safetensors", 0.5)]
CASES = [
    *[dict(loras=[(file, weight)]) for file, weight in [
        ("sd15_peft.safetensors", 1.0), ("sd15_peft.safetensors", 0.0), ("sd15_peft.safetensors", -0.6), ("sd15_diffusers.safetensors", 1.0), ("sd15_processors.safetensors", 0.7),
        ("sd15_without_network.bin", 1.0), ("sd15_kohya.safetensors", 0.7), ("sd15_kohya_alphas.pt", 1.0), ("sd15_kohya_original.safetensors", 1.0), ("sd15_tucker.safetensors", 1.0),
        ("sd15_trained.safetensors", 0.7), ("sd15_stabilised.safetensors", 1.0), ("sd15_other_kohya.safetensors", 0.7), ("sd15_other_peft.safetensors", 1.0),
        ("sd3_peft.safetensors", 0.7), ("sd3_peft.safetensors", 0.0), ("sd3_diffusers.safetensors", 1.0), ("sd3_kohya.safetensors", 1.0), ("sd3_kohya.safetensors", 0.7),
        ("sd3_comfyui.safetensors", 1.0), ("sd3_like_sd35_trained.safetensors", 1.0), ("sd3_like_sd35_kohya.safetensors", 0.7),
    ]],
    dict(loras=TWO),
    dict(loras=TWO, photo=(48, 40), strength=0.6, steps=6),
    dict(loras=[("sd15_other_kohya.safetensors", 0.5), ("sd15_other_peft.safetensors", 0.5)]),
    dict(loras=[("sd3_peft.safetensors", 0.5), ("sd3_kohya.safetensors", 0.5), ("sd3_diffusers.safetensors", -0.5)]),
]


def options_of(case: dict, number: int, name: str) -> dict:
    size = dict(width=48, height=32) if name.startswith("sd15") else dict(width=16, height=24)
    options = dict(prompt=PROMPTS[number % 2], num_inference_steps=case.get("steps", 4), guidance_scale=3.0, generator=torch.Generator("cpu").manual_seed(number))
    if "photo" in case:
        return options | dict(image=photo(900, *case["photo"]), strength=case["strength"])
    return options | size


def drawn(pipeline, case: dict, number: int, name: str) -> np.ndarray:
    if "photo" in case:
        pipeline = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
        pipeline.set_progress_bar_config(disable=True)
    return np.asarray(pipeline(**options_of(case, number, name)).images[0]).astype(int)


@torch.no_grad()
def merge(pipeline, loras: list, made: dict) -> None:
    for file, weight in loras:
        for part, layer, difference in made[file][1]:
            module = getattr(pipeline, part).get_submodule(layer)
            module.weight += weight * difference.reshape(module.weight.shape)


def load(pipeline, loras: list) -> None:
    if isinstance(getattr(pipeline, "unet", None) and pipeline.unet.config.layers_per_block, (list, tuple)):
        # set_adapters counts the layers of all sizes alike.
        for file, weight in loras:
            pipeline.load_lora_weights(OUT, weight_name=file)
            pipeline.fuse_lora(lora_scale=weight)
            pipeline.unload_lora_weights()
        return
    for i, (file, _) in enumerate(loras):
        pipeline.load_lora_weights(OUT, weight_name=file, adapter_name=f"lora_{i}")
    pipeline.set_adapters([f"lora_{i}" for i in range(len(loras))], [weight for _, weight in loras])


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob("*"):
        old.unlink()
    made = make()
    rows = []
    for number, case in enumerate(CASES):
        loras = case["loras"]
        name, reads = made[loras[0][0]][0], all(made[file][2] for file, _ in loras)
        plain = drawn(open_pipeline(name), case, number, name)
        pipeline = open_pipeline(name)
        merge(pipeline, loras, made)
        picture = drawn(pipeline, case, number, name)
        change = np.abs(picture - plain).mean()
        if reads:
            pipeline = open_pipeline(name)
            load(pipeline, loras)
            by_diffusers = drawn(pipeline, case, number, name)
            apart = np.abs(by_diffusers - picture).max()
            print(number, loras, f"diffusers and merged are {apart} apart, changed by {change:.1f}")
            assert apart <= 1
            picture = by_diffusers
        else:
            print(number, loras, f"merged, changed by {change:.1f}")
        assert change > 4 or all(weight == 0 for _, weight in loras), "the adapters hardly count"
        assert picture.std() > 15
        Image.fromarray(picture.astype(np.uint8)).save(OUT / f"picture_{number}.png")
        options = {key: value for key, value in options_of(case, number, name).items() if key in ["prompt", "width", "height", "strength"]}
        row = dict(pipeline=name, loras=[list(lora) for lora in loras], seed=number, steps=case.get("steps", 4), guidance_scale=3.0, picture=f"picture_{number}.png", **options)
        if "photo" in case:
            row["photo"] = f"photo_{number}.png"
            photo(900, *case["photo"]).save(OUT / row["photo"])
        rows.append(row)
    (OUT / "cases.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
