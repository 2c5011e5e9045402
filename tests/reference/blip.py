"""Golden values for tests/cpu/blip.rs: tiny random BLIP checkpoints in the authentic layout, and what
transformers makes of them. Run from the repository root: python tests/reference/blip.py"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

torch.set_num_threads(1)
OUT = Path("tests/golden/blip")
WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] a picture of the two man woman dog cat with and on in is sitting standing
red blue hat ##s ##ing ##ed table street , . ' ! don t n ##n walk ride grass hair long short black next to front""".split()
CONFIGS = {
    # The old preprocessor file (one number), vocab.txt alone, a .bin, the output matrix stored apart.
    "a": dict(
        end_bias=2.0,
        vision=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=16),
        text=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=40),
        processor=dict(size=64, image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711]),
    ),
    # Other widths in the two halves, another activation and eps, safetensors, tied output.
    "b": dict(
        end_bias=1.5,
        vision=dict(hidden_size=40, intermediate_size=64, num_hidden_layers=3, num_attention_heads=5, image_size=48, patch_size=8, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-4),
        text=dict(hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=64, hidden_act="relu"),
        processor=dict(size=dict(height=48, width=48), resample=2, rescale_factor=1 / 255, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4], do_pad=True, size_divisor=32),
    ),
}
SIZES = [(97, 61), (33, 120), (200, 150)]


def picture(width, height, seed):
    """A smooth picture with an edge: noise alone would hide a wrong filter."""
    r = np.random.default_rng(seed)
    small = Image.fromarray(r.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    image = np.asarray(small.resize((width, height), Image.BICUBIC)).copy()
    image[height // 3 :, : width // 4] = r.integers(0, 256, 3, dtype=np.uint8)
    return Image.fromarray(image)


def checkpoint(name, spec):
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(len(name) + ord(name))
    extra = dict(vocab_size=len(WORDS) + 2, bos_token_id=len(WORDS), eos_token_id=2, pad_token_id=0, sep_token_id=3)
    config = BlipConfig(vision_config=spec["vision"], text_config=spec["text"] | extra)
    model = BlipForConditionalGeneration(config).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            value.normal_(0, 0.35 if value.dim() > 1 else 0.2)
            if key.lower().endswith("norm.weight") or "layer_norm" in key and key.endswith("weight"):
                value.add_(1)
        # No special words in the captions, but an end now and then.
        bias = model.text_decoder.cls.predictions.bias
        bias[[0, 1, 2, 4, -1, -2]] -= 20
        bias[3] += spec["end_bias"]
        if name == "b":
            model.text_decoder.cls.predictions.decoder.bias.copy_(bias)
    if name == "a":
        head = model.text_decoder.cls.predictions.decoder
        head.weight = torch.nn.Parameter(head.weight.detach() + 0.1 * torch.randn_like(head.weight))
        head.bias = model.text_decoder.cls.predictions.bias
        state = {k: v.clone() for k, v in model.state_dict().items()}
        state["text_decoder.bert.embeddings.position_ids"] = torch.arange(config.text_config.max_position_embeddings)[None]
        torch.save(state, folder / "pytorch_model.bin")
    else:
        state = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("text_decoder.cls.predictions.decoder")}
        save_file(state, folder / "model.safetensors")
    config.to_json_file(folder / "config.json", use_diff=False)
    (folder / "preprocessor_config.json").write_text(json.dumps(spec["processor"]))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"}))
    return folder, model


def main():
    images = []
    for i, (width, height) in enumerate(SIZES):
        image = picture(width, height, i)
        image.save(OUT / f"{i}.png", optimize=True)
        images.append(image)
    for name, spec in CONFIGS.items():
        folder, model = checkpoint(name, spec)
        processor = BlipImageProcessor(**{k: v for k, v in spec["processor"].items() if k not in ("do_pad", "size_divisor")})
        tokenizer = BertTokenizer.from_pretrained(str(folder))
        with torch.no_grad():
            pixels = processor(images, return_tensors="pt").pixel_values
            states = model.vision_model(pixels).last_hidden_state
            save_file({"pixels": pixels.contiguous(), "states": states.contiguous()}, folder / "expected.safetensors")
            texts = []
            for prompt in [None, "a picture of", "The two-man, don't walking!"]:
                ids = None if prompt is None else tokenizer([prompt] * len(images), return_tensors="pt")
                inputs = {} if ids is None else dict(input_ids=ids.input_ids, attention_mask=ids.attention_mask)
                for beams, length in [(1, None), (1, 7), (3, None), (4, 11)]:
                    extra = {} if length is None else dict(max_new_tokens=length)
                    inputs_now = {k: v.clone() for k, v in inputs.items()}
                    out = model.generate(pixel_values=pixels, num_beams=beams, do_sample=False, **inputs_now, **extra)
                    text = [t.strip() for t in tokenizer.batch_decode(out, skip_special_tokens=True)]
                    texts.append(dict(prompt=prompt, beams=beams, max_new_tokens=length, ids=out.tolist(), texts=text))
        (folder / "expected.json").write_text(json.dumps(texts))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    main()
