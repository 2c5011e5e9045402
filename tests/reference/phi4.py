"""Golden values of Phi-4-multimodal and of beam search, from transformers on tiny random checkpoints.

usage: python tests/reference/phi4.py          (writes tests/golden/phi4/)
       python tests/reference/phi4.py mini     (only mini.json: what the embedded checkpoint says)

Each checkpoint is written in both layouts, native (`save_pretrained` and a peft adapter folder) and
original (the hub's main revision); the values are those of the reference model with the adapter
merged by peft. Weights are rounded to bfloat16, so the files are small and still exact in float32.
"""

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.phi4_multimodal.image_processing_phi4_multimodal import Phi4MultimodalImageProcessor

ROOT = Path(__file__).resolve().parents[1] / "golden" / "phi4"
LINES = [
    "a young woman with long red hair and blue eyes, wearing a green sweater and round glasses",
    "an old man with a short white beard and a black hat, smiling, in front of a yellow wall",
    "Describe the person in this picture: hair, eyes, clothes, mood. What is on the table?",
]
SPECIAL = ["<|endoftext|>", "<|endoftext10|>", "<|endoftext11|>", "<|end|>", "<|assistant|>", "<|user|>", "<|system|>"]
QUESTION = "Describe the person, please."
WINDOW = 90
TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]

# Pictures: width, height. Odd sizes, padding on the right or below with an odd number of valid
# patches, one crop and several, one smaller than a patch of the enlarged canvas.
SIZES = [(178, 218), (37, 53), (500, 375), (451, 101), (256, 256)]

CASES = {
    "a": dict(
        hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        rotary=0.75, long=[1.0, 1.9, 3.7], lora=(4, 8), limit=4096, tie=True, seed=1,
        vision=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2),
    ),
    "b": dict(
        hidden_size=60, intermediate_size=48, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=1,
        rotary=0.4, long=[1.3, 5.0], lora=(3, 12), limit=4096, tie=False, seed=2,
        vision=dict(hidden_size=20, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, feature_layer=-3),
    ),
}


def tokenizer_file(path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.save(str(path))
    return tokenizer


def build(case, ids):
    rotary = int(case["hidden_size"] // case["num_attention_heads"] * case["rotary"]) // 2
    long = (case["long"] * rotary)[:rotary]
    config = transformers.Phi4MultimodalConfig(
        vocab_size=384,
        **{key: case[key] for key in ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]},
        max_position_embeddings=131072,
        original_max_position_embeddings=case["limit"],
        tie_word_embeddings=case["tie"],
        bos_token_id=ids["<|endoftext|>"], pad_token_id=ids["<|endoftext|>"],
        eos_token_id=[ids["<|end|>"], ids["<|endoftext|>"]],
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=case["rotary"],
                             short_factor=[1.0 + 0.1 * i for i in range(rotary)], long_factor=long),
        vision_config=dict(image_token_id=ids["<|endoftext10|>"], **case["vision"]),
        audio_config=dict(hidden_size=8, intermediate_size=8, num_blocks=1, num_attention_heads=1, ext_pw_out_channel=8,
                          depthwise_separable_out_channel=8, nemo_conv_channels=8, audio_token_id=ids["<|endoftext11|>"]),
    )
    # Not sdpa: where no patch is masked, this version's vision attention is then causal by mistake.
    config._attn_implementation = "eager"
    model = transformers.Phi4MultimodalForCausalLM(config).eval()
    assert model.model.embed_tokens_extend.image_embed.img_processor.config._attn_implementation == "eager"
    generator = torch.Generator().manual_seed(case["seed"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1 and "extensor" not in name:
                # Wide enough that attention is far from uniform and the answer depends on the picture.
                fan = parameter[0].numel()
                gain = 1.0 if "embed" in name.split(".")[-2] and "patch" not in name else 1.4 / math.sqrt(fan)
                value = noise * gain
            elif name.endswith("norm.weight") or "layer_norm" in name and name.endswith("weight"):
                value = 1.0 + 0.2 * noise
            elif "layernorm" in name and name.endswith("weight"):
                value = 1.0 + 0.2 * noise
            else:
                value = 0.3 * noise
            parameter.copy_(value.to(torch.bfloat16).float())
        if case["tie"]:
            model.tie_weights()
    return model


def with_adapter(model, case):
    rank, alpha = case["lora"]
    generator = torch.Generator().manual_seed(case["seed"] + 100)
    peft = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=r"model\.layers\.\d+\.(self_attn|mlp)\.(" + "|".join(TARGETS) + ")"))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.copy_((torch.randn(parameter.shape, generator=generator) * 0.25).to(torch.bfloat16).float())
    return peft.eval()


def bf16(state):
    return {key: tensor.detach().to(torch.bfloat16).contiguous().clone() for key, tensor in state.items()}


def write_native(folder, model, case, state, adapter):
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    save_file(bf16(state), folder / "model.safetensors", metadata={"format": "pt"})
    rank, alpha = case["lora"]
    (folder / "vision-lora").mkdir()
    save_file(bf16(adapter), folder / "vision-lora" / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "vision-lora" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": TARGETS}, indent=1))
    ends = {"bos_token_id": model.config.bos_token_id, "eos_token_id": model.config.eos_token_id, "pad_token_id": model.config.pad_token_id}
    (folder / "generation_config.json").write_text(json.dumps(ends, indent=1))
    Phi4MultimodalImageProcessor().save_pretrained(folder)


def write_original(folder, model, case, state, adapter):
    path = Path(__file__).resolve().parents[2] / "experiments" / "mini" / "make" / "checkpoints.py"
    spec = importlib.util.spec_from_file_location("checkpoints", path)
    sys.path.insert(0, str(path.parent))
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    folder.mkdir(parents=True)
    rank, alpha = case["lora"]
    renamed = {make.original_key(key): tensor for key, tensor in state.items()}
    for key, tensor in adapter.items():
        # base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight
        renamed[key.removeprefix("base_model.model.").replace(".weight", ".vision.weight")] = tensor
    renamed["model.layers.0.mlp.down_proj.lora_A.speech.weight"] = torch.ones(2, model.config.intermediate_size)
    save_file(bf16(renamed), folder / "model.safetensors", metadata={"format": "pt"})
    config = make.phi4_original_config(model.config, {"vision": rank, "speech": 2})
    config["vision_lora"]["lora_alpha"] = alpha
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    ends = {"bos_token_id": model.config.bos_token_id, "eos_token_id": model.config.eos_token_id, "pad_token_id": model.config.pad_token_id}
    (folder / "generation_config.json").write_text(json.dumps(ends, indent=1))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Phi4MMImageProcessor", "dynamic_hd": 36}, indent=1))


def picture(width, height, seed):
    """Smooth colours with edges: the test makes the same one (integers only)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    red = (x * 255 // max(width - 1, 1) + seed * 37) % 256
    green = (y * 255 // max(height - 1, 1) + (x // 16 + y // 16) % 2 * 90 + seed * 11) % 256
    blue = (x * y // 97 + seed * 71) % 256
    return Image.fromarray(np.stack([red, green, blue], 2).astype(np.uint8))


def inputs_for(tokenizer, processor, pictures, question, ids):
    """Input ids padded on the left, with the pictures' tokens."""
    out = processor(pictures, return_tensors="pt")
    image, pad = ids["<|endoftext10|>"], ids["<|endoftext|>"]
    rows = []
    for count in out.pop("num_img_tokens"):
        row = tokenizer.encode(f"<|user|><|endoftext10|>{question}<|end|><|assistant|>").ids
        at = row.index(image)
        rows.append(row[:at] + [image] * int(count) + row[at + 1 :])
    longest = max(map(len, rows))
    input_ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return dict(input_ids=input_ids, attention_mask=mask, **out)


def answers(model, tokenizer, inputs, count, **options):
    made = model.generate(**inputs, max_new_tokens=count, do_sample=False, **options)[:, inputs["input_ids"].shape[1] :]
    ends = model.generation_config.eos_token_id
    rows = []
    for row in made.tolist():
        end = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        rows.append({"ids": row[:end], "text": tokenizer.decode(row[:end], skip_special_tokens=True)})
    return rows


def first_logits(model, inputs):
    return model(**inputs, logits_to_keep=1).logits[:, -1]


@torch.no_grad()
def checkpoint(name, case):
    folder = ROOT / name
    folder.mkdir(parents=True)
    tokenizer = tokenizer_file(folder / "tokenizer.json")
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    model = build(case, ids)
    # One audio tensor is enough to prove that they are passed over.
    kept = [".audio_projection_for_vision.up.bias", ".audio_projection.vision.up.bias", "audio_embed.up_proj_for_speech.bias"]
    state = {key: tensor for key, tensor in model.state_dict().items() if ".audio_embed." not in key or any(end in key for end in kept)}
    if case["tie"]:
        state.pop("lm_head.weight", None)
    peft = with_adapter(model, case)
    adapter = {key.replace(".default", ""): tensor for key, tensor in peft.state_dict().items() if "lora_" in key}
    write_native(folder / "native", model, case, state, adapter)
    write_original(folder / "original", model, case, state, adapter)
    merged = peft.merge_and_unload().eval()
    merged.generation_config = transformers.GenerationConfig(eos_token_id=merged.config.eos_token_id, pad_token_id=merged.config.pad_token_id)
    processor = Phi4MultimodalImageProcessor()
    tensors, texts = {}, {"question": QUESTION, "sizes": SIZES, "single": [], "beams": []}
    embed = merged.model.embed_tokens_extend.image_embed
    pictures = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    for i, image in enumerate(pictures):
        inputs = inputs_for(tokenizer, processor, [image], QUESTION, ids)
        hidden = embed.img_processor(inputs["image_pixel_values"].flatten(0, 1),
                                     patch_attention_mask=inputs["image_attention_mask"].flatten(0, 1).bool(), output_hidden_states=True)
        feature = hidden.hidden_states[merged.config.vision_config.feature_layer]
        # Every 211th patch: many rows and columns are met, and the file stays small.
        tensors[f"feature.{i}"] = feature[:, ::211].contiguous()
        whole = merged.model.embed_tokens_extend(inputs["input_ids"], merged.model.embed_tokens(inputs["input_ids"]),
                                                 image_pixel_values=inputs["image_pixel_values"], image_sizes=inputs["image_sizes"],
                                                 image_attention_mask=inputs["image_attention_mask"])
        tokens = whole[0, inputs["input_ids"][0] == ids["<|endoftext10|>"]]
        tensors[f"tokens.{i}"] = tokens[::17].contiguous()
        texts.setdefault("counts", []).append(tokens.shape[0])
        tensors[f"logits.{i}"] = first_logits(merged, inputs)
        texts["single"].append(answers(merged, tokenizer, inputs, 12)[0])
        if i < 3:
            texts["beams"].append(answers(merged, tokenizer, inputs, 8, num_beams=3)[0])
    assert len({row["text"] for row in texts["single"]}) >= 3, texts["single"]
    batch = inputs_for(tokenizer, processor, pictures, QUESTION, ids)
    tensors["logits.batch"] = first_logits(merged, batch)
    texts["batch"] = answers(merged, tokenizer, batch, 12)
    for one, together in zip(texts["single"], texts["batch"]):
        assert one == together, (one, together)
    # The switch to the long factors: the limit lies inside the prompt, and two tokens after it.
    texts["switch"] = []
    inputs = inputs_for(tokenizer, processor, pictures[:1], QUESTION, ids)
    length = inputs["input_ids"].shape[1]
    for limit in [length - 9, length - 1, length, length + 2] if name == "b" else [length + 1]:
        short = build({**case, "limit": limit}, ids)
        # The factor on cosines depends on the limit; the tests set it from the same configuration.
        changed = with_adapter(short, case).merge_and_unload().eval()
        changed.generation_config = merged.generation_config
        # With its cache, this transformers version reads only the last token after the switch; without
        # one, every step reads the whole text, which is what the switch is meant to give.
        for beams in [1, 2]:
            row = answers(changed, tokenizer, inputs, 8, use_cache=False, num_beams=beams)[0]
            texts["switch"].append({"limit": limit, "beams": beams, **row})
    # A window shorter than the prompt, with the padding of a batch.
    merged.config.sliding_window = WINDOW
    two = inputs_for(tokenizer, processor, pictures[:2], QUESTION, ids)
    texts["window"] = {"size": WINDOW, "answers": answers(merged, tokenizer, two, 8)}
    assert [row["ids"] for row in texts["window"]["answers"]] != [row["ids"][:8] for row in texts["single"][:2]]
    save_file({key: tensor.float().contiguous() for key, tensor in tensors.items()}, folder / "values.safetensors")
    (folder / "texts.json").write_text(json.dumps(texts, indent=1, ensure_ascii=False))
    print(name, json.dumps(texts["single"])[:300], len(texts["switch"]))


def pixels():
    """Grids, tokens and pixels of the native processor over many sizes."""
    processor = Phi4MultimodalImageProcessor()
    rng = np.random.default_rng(0)
    table = [(640, 480), (480, 640), (640, 427), (640, 426), (427, 640), (500, 375), (375, 500), (500, 333), (178, 218),
             (256, 256), (448, 448), (512, 512), (640, 640), (1024, 1024), (1280, 720), (1920, 1080), (4032, 3024)]
    sizes = table + [tuple(int(v) for v in rng.integers(12, 900, 2)) for _ in range(60)]
    # Too large for 36 crops: only the choice of the grid matters, so nothing is resized.
    large = [tuple(int(v) for v in np.exp(rng.uniform(5, 9.9, 2))) for _ in range(400)]
    large += [(448 * i, 448 * j) for i in range(1, 20) for j in range(1, 20)] + [(6000, 10), (10, 6000), (40, 9000)]
    rows = []


    def plan(width, height):
        """Width and height of the canvas and of the picture on it, without resizing anything."""
        from transformers.models.phi4_multimodal import image_processing_phi4_multimodal as module

        saved, seen = module.tvF, {}

        class Stop:
            @staticmethod
            def resize(image, size):
                seen["resized"] = size
                return image

            @staticmethod
            def pad(image, padding, fill):
                return torch.empty(3, seen["resized"][0] + padding[3], seen["resized"][1] + padding[2], device="meta")

        module.tvF = Stop
        try:
            canvas, _ = processor.dynamic_preprocess(torch.empty(3, height, width, device="meta"), 448, 14, 32, max_num=36)
        except ValueError:
            return None
        finally:
            module.tvF = saved
        return [canvas.shape[2], canvas.shape[1], *seen["resized"][::-1]]

    for width, height in sizes + large:
        rows.append([width, height, plan(width, height)])
    tensors = {}
    for i, (width, height) in enumerate([(37, 53), (178, 218), (451, 101), (500, 375), (640, 427), (448, 448), (1031, 700)]):
        out = processor([picture(width, height, i)], return_tensors="pt")
        values = out["image_pixel_values"][0]
        mask = out["image_attention_mask"][0]
        name = f"{width}x{height}"
        # A line of green of every crop; the sum in whole grey levels says that the rest is equal too.
        tensors[f"{name}.lines"] = values[:, 1:2, [301]].contiguous()
        tensors[f"{name}.levels"] = (values[1:] * 127.5 + 127.5).round().long().sum((1, 2, 3))
        tensors[f"{name}.valid"] = torch.stack([mask[:, :, 0].sum(1), mask[:, 0, :].sum(1)], 1).long()
        tensors[f"{name}.tokens"] = torch.tensor([int(out["num_img_tokens"][0])])
    folder = ROOT / "processor"
    folder.mkdir(parents=True)
    save_file(tensors, folder / "values.safetensors")
    (folder / "grids.json").write_text(json.dumps(rows))


@torch.no_grad()
def mini():
    """What the embedded checkpoint says of some photos: brought to the native names, the adapter merged by hand."""
    home = ROOT.parents[2] / "experiments" / "mini"
    folder = home / "models" / "mini-phi-4-multimodal"
    raw = {}
    for file in sorted(folder.glob("*.safetensors")):
        raw |= {key: tensor.float() for key, tensor in load_file(file).items()}
    said = json.loads((folder / "config.json").read_text())
    scale = said["vision_lora"]["lora_alpha"] / said["vision_lora"]["r"]
    names = {"img_projection.0.": "img_projection_up.", "img_projection.2.": "img_projection_down.",
             "glb_GN": "global_img_feature_extensor", "sub_GN": "sub_img_feature_extensor"}
    state = {}
    for key, tensor in raw.items():
        if "lora_" in key or ".audio_embed." in key:
            continue
        if key.endswith(".base_layer.weight"):
            stem = key.removesuffix("base_layer.weight")
            tensor = tensor + scale * raw[f"{stem}lora_B.vision.weight"] @ raw[f"{stem}lora_A.vision.weight"]
            key = stem + "weight"
        for original, native in names.items():
            key = key.replace(original, native)
        state[key] = tensor
    copied = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
              "rms_norm_eps", "max_position_embeddings", "original_max_position_embeddings", "sliding_window", "tie_word_embeddings"]
    ends = json.loads((folder / "generation_config.json").read_text())
    audio = dict(hidden_size=8, intermediate_size=8, num_blocks=1, num_attention_heads=1, ext_pw_out_channel=8,
                 depthwise_separable_out_channel=8, nemo_conv_channels=8, audio_token_id=0)
    config = transformers.Phi4MultimodalConfig(
        **{key: said[key] for key in copied}, vision_config=said["vision_config"], audio_config=audio,
        rope_parameters={"rope_theta": said["rope_theta"], "partial_rotary_factor": said["partial_rotary_factor"], "rope_type": "longrope",
                         "short_factor": said["rope_scaling"]["short_factor"], "long_factor": said["rope_scaling"]["long_factor"]},
        **ends)
    config._attn_implementation = "eager"
    model = transformers.Phi4MultimodalForCausalLM(config).eval()
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys and all(".audio_embed." in key or key == "lm_head.weight" for key in left.missing_keys), left
    model.tie_weights()
    model.generation_config = transformers.GenerationConfig(eos_token_id=ends["eos_token_id"], pad_token_id=ends["pad_token_id"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    photos = [f"face-{i:03}.png" for i in (1, 7, 19, 30)]
    out = {"question": "Describe the person in this picture.", "photos": photos, "greedy": [], "beams": []}
    for i, name in enumerate(photos):
        photo = Image.open(home / "photos" / name).convert("RGB")
        assert photo.width == photo.height <= 448
        # The hub's code resizes with Pillow; a square of 448 then passes the processor as it is.
        photo = photo.resize((448, 448), Image.Resampling.BILINEAR)
        inputs = inputs_for(tokenizer, Phi4MultimodalImageProcessor(), [photo], out["question"], ids)
        out["greedy"] += answers(model, tokenizer, inputs, 12)
        if i < 2:
            out["beams"] += answers(model, tokenizer, inputs, 12, num_beams=3)
    (ROOT / "mini.json").write_text(json.dumps(out, indent=1, ensure_ascii=False))
    print("mini", [row["text"] for row in out["greedy"]])


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["mini"]:
        # Only the embedded checkpoint has changed.
        mini()
        raise SystemExit
    shutil.rmtree(ROOT, ignore_errors=True)
    pixels()
    mini()
    for name, case in CASES.items():
        checkpoint(name, case)
