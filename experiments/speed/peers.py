#!/usr/bin/env python3
"""Times what the toolkit is compared with: transformers and diffusers on random weights of the published sizes.

    python3 peers.py --rows sd3-1,sd15-8 [--compiled] [--tiny]

One JSON line a row, printed as soon as the row is done, with the figures that `toolkit bench` prints too; an error is
a line as well. `--serve` reads such requests from stdin instead ({"row": …, "compiled": …} a line), so that compare.py
can take turns with the toolkit while the model stays. The rows of whole processes are timed by processes.py.
Rows are listed in rows.py. Without a GPU only `--tiny` is sensible: the same code with few layers.
"""
import argparse
import json
import os
import sys
import time
import traceback

import torch

import nets
from rows import named
from timing import DEVICE, build, ceilings, median_seconds, number_type, peak_memory, reset, seconds

TINY = False
MODE = "reduce-overhead"


def generated(batch, whole, steps, step):
    return {"seconds_per_image": whole / batch, "step_seconds": step / steps, "steps": steps}


class Sd3:
    """A picture as the toolkit's bench draws it: three text encoders, 28 guided steps, the autoencoder."""

    def __init__(self):
        from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

        self.dtype = number_type(torch.bfloat16)
        self.encoders = [build(nets.clip(size, TINY), self.dtype) for size in "lg"]
        self.t5 = build(nets.t5(TINY), self.dtype)
        self.pipe = StableDiffusion3Pipeline(
            transformer=build(nets.sd3_transformer(TINY), self.dtype),
            vae=build(nets.autoencoder(16), self.dtype).to(memory_format=torch.channels_last),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), text_encoder=None, tokenizer=None,
            text_encoder_2=None, tokenizer_2=None, text_encoder_3=None, tokenizer_3=None)
        self.pipe.set_progress_bar_config(disable=True)
        self.side, self.steps = (128, 2) if TINY else (1024, 28)

    def encode(self, batch):
        """As `encode_prompt` does: the CLIP encoders beside each other, filled to T5's width, then T5."""
        ids = torch.randint(0, 30000, (batch, 77), device=DEVICE)
        clip = [encoder(ids, output_hidden_states=True) for encoder in self.encoders]
        hidden = torch.cat([out.hidden_states[-2] for out in clip], -1)
        hidden = torch.nn.functional.pad(hidden, (0, 4096 - hidden.shape[-1]))
        texts = self.t5(torch.randint(0, 30000, (batch, 256), device=DEVICE))[0]
        return torch.cat([hidden, texts], 1), torch.cat([out.text_embeds for out in clip], -1)

    def draw(self, batch):
        (wanted, pooled), (unwanted, unpooled) = self.encode(batch), self.encode(batch)
        pictures = self.pipe(
            prompt_embeds=wanted, pooled_prompt_embeds=pooled, negative_prompt_embeds=unwanted,
            negative_pooled_prompt_embeds=unpooled, num_inference_steps=self.steps, guidance_scale=7.0,
            height=self.side, width=self.side, output_type="pt").images
        return bytes_of(pictures)

    def compile(self):
        self.pipe.transformer.to(memory_format=torch.channels_last)
        compile_parts(self.pipe, "transformer")

    def measure(self, batch):
        whole = median_seconds(lambda: self.draw(batch), 3 if batch == 1 else 2)
        (wanted, pooled), side = self.encode(2 * batch), self.side // 8
        noise = torch.randn(2 * batch, 16, side, side, device=DEVICE, dtype=self.dtype)
        time_step = torch.full((2 * batch,), 500.0, device=DEVICE)
        step = median_seconds(lambda: self.pipe.transformer(
            hidden_states=noise, encoder_hidden_states=wanted, pooled_projections=pooled, timestep=time_step,
            return_dict=False), 5)
        return generated(batch, whole, 1, step) | {"steps": self.steps}


class Sd15:
    """Image-to-image as the toolkit's bench does it, channels last, PNDM."""

    def __init__(self):
        from diffusers import PNDMScheduler, StableDiffusionImg2ImgPipeline

        self.dtype = number_type(torch.float16)
        last = dict(memory_format=torch.channels_last)
        self.text = build(nets.clip("l", TINY), self.dtype)
        scheduler = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                  num_train_timesteps=1000, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
        self.pipe = StableDiffusionImg2ImgPipeline(
            vae=build(nets.autoencoder(4), self.dtype).to(**last), unet=build(nets.unet(), self.dtype).to(**last),
            scheduler=scheduler, text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False)
        self.pipe.set_progress_bar_config(disable=True)
        self.side, self.steps = (64, 4) if TINY else (512, 50)

    def draw(self, batch):
        ids = lambda: torch.randint(0, 30000, (batch, 77), device=DEVICE)
        wanted, unwanted = (self.text(ids(), output_hidden_states=True).last_hidden_state for _ in "ab")
        photos = torch.rand(1, 3, self.side, self.side).to(DEVICE, self.dtype).expand(batch, -1, -1, -1)
        pictures = self.pipe(prompt_embeds=wanted, negative_prompt_embeds=unwanted, image=photos, strength=0.8,
                             num_inference_steps=self.steps, guidance_scale=7.5, output_type="pt").images
        return bytes_of(pictures)

    def compile(self):
        compile_parts(self.pipe, "unet")

    def measure(self, batch):
        whole = median_seconds(lambda: self.draw(batch), 3 if batch == 1 else 2)
        side = self.side // 8
        noise = torch.randn(2 * batch, 4, side, side, device=DEVICE, dtype=self.dtype)
        text, time_step = torch.randn(2 * batch, 77, 768, device=DEVICE, dtype=self.dtype), torch.tensor(500, device=DEVICE)
        step = median_seconds(lambda: self.pipe.unet(noise, time_step, encoder_hidden_states=text, return_dict=False), 5)
        # PNDM looks at the first step twice.
        return generated(batch, whole, 1, step) | {"steps": int(self.steps * 0.8) + 1}


class Phi4:
    """A 640×480 picture (its upper left crop whole, as the processor lays it out) and 24 words, then 65 tokens."""

    def __init__(self):
        self.config, new = nets.phi4(TINY)
        self.dtype = number_type(torch.bfloat16)
        self.model = build(new, self.dtype)
        self.static = False

    def inputs(self, batch):
        mask = torch.ones(batch, 5, 32, 32, device=DEVICE)
        mask[:, 3:, 16:, :] = 0  # the lower crops are half used: 672 of 896 rows
        tokens = 256 + 1 + int(mask[0, 1:, 0::2, 0::2].sum()) + 24 + 16
        ids = torch.full((batch, tokens + 24), 100, device=DEVICE)
        ids[:, 4 : 4 + tokens] = self.config.vision_config.image_token_id
        pixels = torch.randn(batch, 5, 3, 448, 448, device=DEVICE, dtype=self.dtype)
        sizes = torch.tensor([[896, 896]] * batch, device=DEVICE)
        return dict(input_ids=ids, attention_mask=torch.ones_like(ids), image_pixel_values=pixels, image_sizes=sizes,
                    image_attention_mask=mask)

    def compile(self):
        self.static = True

    def measure(self, batch):
        given = self.inputs(batch)
        if self.static:
            # transformers compiles the decoding step by itself where the cache has a fixed size.
            given["cache_implementation"] = "static"
        run = lambda tokens: self.model.generate(**given, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        tokens, least = 3 if TINY else 65, 2 if self.static else 1
        run(tokens)
        prefill, whole = median_seconds(lambda: run(least)), median_seconds(lambda: run(tokens))
        if whole <= prefill:
            raise ValueError(f"{tokens} tokens took no longer than {least}: other work disturbs this machine")
        figures = {"tokens_per_second": batch * (tokens - least) / (whole - prefill), "new_tokens": tokens}
        # Of a static cache's two tokens the second is not prefill.
        return figures if self.static else figures | {"prefill_seconds": prefill}


class Blip:
    def __init__(self, size):
        self.dtype = number_type(torch.float16)
        self.model = build(nets.blip(size, TINY), self.dtype)

    def measure(self, batch):
        pixels = torch.randn(batch, 3, 384, 384, device=DEVICE, dtype=self.dtype)
        tokens = 2 if TINY else 20
        run = lambda: self.model.generate(pixel_values=pixels, max_new_tokens=tokens, min_new_tokens=tokens,
                                          do_sample=False)
        return {"images_per_second": batch / median_seconds(run), "new_tokens": tokens}


FAMILIES = {
    "sd3": Sd3, "sd15": Sd15, "phi4": Phi4, "blip-base": lambda: Blip("base"), "blip-large": lambda: Blip("large"),
}


def compile_parts(pipe, denoiser):
    """The denoiser and the decoder, for each shape by itself."""
    setattr(pipe, denoiser, torch.compile(getattr(pipe, denoiser), mode=MODE, fullgraph=True, dynamic=False))
    pipe.vae.decode = torch.compile(pipe.vae.decode, fullgraph=True, dynamic=False)


def bytes_of(pictures):
    """Pictures as bytes in main memory, where the toolkit's bench ends too."""
    return (pictures.float() * 255).round().to(torch.uint8).cpu()


class Bench:
    """Builds one family at a time, and answers row by row."""

    def __init__(self):
        self.family, self.peer, self.compiled, self.done = None, None, False, {}

    def figures(self, row, compiled):
        if self.family != row.family or self.compiled and not compiled:
            self.peer = None
            reset()
            self.family, self.compiled, self.done = row.family, False, {}
            self.load_seconds = seconds(self.load)
        if compiled and not self.compiled:
            self.peer.compile()
            self.compiled, self.done = True, {}
        batch = min(row.case[0], 2) if TINY else row.case[0]
        if batch not in self.done:  # two rows may be two figures of one run
            reset()
            with torch.inference_mode():
                first = seconds(lambda: self.first(batch)) if compiled else None
                figures = self.peer.measure(batch) | {"peak_memory_bytes": peak_memory()}
            figures |= {"load_seconds": self.load_seconds, "batch_size": batch}
            self.done[batch] = figures | ({"compile_seconds": first} if compiled else {})
        return self.done[batch]

    def load(self):
        self.peer = FAMILIES[self.family]()

    def first(self, batch):
        """What compiling costs: the first run of each shape."""
        if isinstance(self.peer, Phi4):
            self.peer.measure(batch)
        else:
            self.peer.draw(batch)

    def answer(self, name, compiled):
        start = time.time()
        try:
            (row,) = named(name)
            if row.family not in FAMILIES:
                raise ValueError("a whole process: processes.py")
            if compiled and not row.compiles:
                raise ValueError("nothing to compile in this row")
            figures = self.figures(row, compiled)
        except Exception as error:  # one row must not cost the others
            traceback.print_exc()
            figures = {"error": f"{type(error).__name__}: {error}"[:300]}
        reset()  # the toolkit is next
        say({"row": name, "compiled": compiled, "wall_seconds": round(time.time() - start, 2)} | figures)


def machine():
    """Where this runs, and what the machine can do."""
    import platform

    import diffusers
    import transformers

    versions = {"python": platform.python_version(), "torch": torch.__version__,
                "transformers": transformers.__version__, "diffusers": diffusers.__version__}
    gpu = torch.cuda.get_device_name() if DEVICE == "cuda" else f"no GPU ({os.cpu_count()} CPU cores)"
    return {"gpu": gpu, "versions": versions, "ceilings": ceilings(TINY)}


def say(line):
    print(json.dumps(line), flush=True)


def main():
    global TINY, MODE
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="all", help="names, with commas between them")
    parser.add_argument("--compiled", action="store_true", help="torch.compile first; how long that takes is recorded")
    parser.add_argument("--mode", default=MODE, help="torch.compile's mode of denoisers")
    parser.add_argument("--tiny", action="store_true", help="few layers, small pictures")
    parser.add_argument("--machine", action="store_true", help="only measure what the machine can do")
    parser.add_argument("--serve", action="store_true", help="answer requests from stdin")
    args = parser.parse_args()
    TINY, MODE = args.tiny, args.mode
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    if args.machine:
        return say(machine())
    bench = Bench()
    if args.serve:
        for line in sys.stdin:
            request = json.loads(line)
            bench.answer(request["row"], request.get("compiled", False))
        return None
    for row in named(args.rows):
        if row.family in FAMILIES and (row.compiles or not args.compiled):
            bench.answer(row.name, args.compiled)


if __name__ == "__main__":
    main()
