"""Tiny checkpoints as today's transformers and diffusers save them again, for tests/cpu/resaved.rs: each folder of
tests/golden is loaded and written by `save_pretrained`. Where a file of weights comes back with the same names and
values it is not stored a second time: the test takes that of the golden folder.

Run from the repository root: python tests/reference/resaved.py"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    Phi4MultimodalConfig,
    Phi4MultimodalForCausalLM,
)
from transformers.models.phi4_multimodal.image_processing_phi4_multimodal import Phi4MultimodalImageProcessor

GOLDEN = Path("tests/golden")
OUT = GOLDEN / "resaved"


def weights(folder):
    """All tensors below a folder, by file and name."""
    found = {}
    for file in sorted(folder.rglob("*.safetensors")):
        for name, tensor in load_file(file).items():
            found[f"{file.relative_to(folder)}:{name}"] = tensor
    for file in sorted(folder.glob("pytorch_model.bin")):
        for name, tensor in torch.load(file, weights_only=True).items():
            found[f"model.safetensors:{name}"] = tensor
    return found


def keep(name, saved, golden, ignore=()):
    """Puts what was saved into the golden folder `resaved/NAME`, files of weights only where they differ."""
    wanted = lambda tensors: {key: value for key, value in tensors.items() if not any(word in key for word in ignore)}
    old, new = wanted(weights(golden)), wanted(weights(saved))
    changed = {key for key, value in new.items() if key not in old or not torch.equal(old[key].float(), value.float())}
    changed = {key.split(":")[0] for key in changed | (set(old) - set(new))}
    target = OUT / name
    shutil.rmtree(target, ignore_errors=True)
    for file in sorted(saved.rglob("*")):
        place = file.relative_to(saved)
        if file.is_file() and (file.suffix != ".safetensors" or str(place) in changed):
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / place)
    print(f"{name}: weights stored: {sorted(changed) or 'none'}")


def blip(case):
    folder = GOLDEN / "blip" / case
    with tempfile.TemporaryDirectory() as temporary:
        saved = Path(temporary)
        BlipForConditionalGeneration.from_pretrained(folder, dtype="auto").save_pretrained(saved)
        processor = BlipProcessor(BlipImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
        processor.save_pretrained(saved)
        keep(f"blip_{case}", saved, folder, ignore=("expected",))


def phi4(case):
    folder = GOLDEN / "phi4" / case / "native"
    with tempfile.TemporaryDirectory() as temporary:
        saved = Path(temporary)
        # The adapter has a folder of its own, which is copied as it is.
        config = Phi4MultimodalConfig.from_pretrained(folder)
        Phi4MultimodalForCausalLM.from_pretrained(folder, config=config, dtype="auto").save_pretrained(saved)
        Phi4MultimodalImageProcessor.from_pretrained(folder).save_pretrained(saved)
        # As transformers 4.43 to 4.57 wrote it: the old and the new name of the kind, side by side.
        config = json.loads((saved / "config.json").read_text())
        for key in ("rope_parameters", "rope_scaling"):
            if config.get(key):
                config[key]["type"] = config[key]["rope_type"]
        (saved / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        keep(f"phi4_{case}", saved, folder, ignore=("vision-lora", "audio", "values"))


def pipeline(kind, name, folder, **parts):
    with tempfile.TemporaryDirectory() as temporary:
        saved = Path(temporary)
        kind.from_pretrained(folder, **parts).save_pretrained(saved)
        keep(name, saved, folder)


if __name__ == "__main__":
    for case in ("a", "b"):
        blip(case)
        phi4(case)
    pipeline(StableDiffusionPipeline, "sd15_like_v1", GOLDEN / "sd15" / "like_v1")
    pipeline(StableDiffusionPipeline, "sd15_other", GOLDEN / "sd15" / "other")
    pipeline(StableDiffusion3Pipeline, "sd3_with_t5", GOLDEN / "sd3" / "with_t5")
    without = dict(text_encoder_3=None, tokenizer_3=None)
    pipeline(StableDiffusion3Pipeline, "sd3_without_t5", GOLDEN / "sd3" / "without_t5", **without)
