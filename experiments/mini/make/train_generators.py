"""Trains text encoders and denoiser together: python train_generators.py sd3|sd15 --data … --out …

Waits for the autoencoder (OUT/sd3-vae.pt), which another process trains. At the end it draws the held-out
people with diffusers' own pipeline; where OUT/art-inception.pt exists, that net says what it sees in them.
"""

import io
import json
import lzma
import random
import time

import diffusers
import torch
import transformers
from torch import nn
from torch.nn import functional as F

import nets
import texts
from learning import Training, World, attribute_accuracy, attribute_loss, autocast, grid, options, resume, say

VARIANTS = 8  # prompts of a person in a style
EMPTY = 0.12  # share of prompts replaced by the empty one


def vae_of(args):
    """The trained autoencoder, as soon as its training has ended."""
    name = "sd3-vae" if args.job == "sd3" else "sd15-vae"
    net = nets.sd3_vae() if args.job == "sd3" else nets.sd15_vae()
    earlier = (args.resume or args.out) / f"{name}.pt"
    while not ((args.out / f"{name}.json").exists() or (args.resume and earlier.exists())):
        time.sleep(1)
    path = args.out / f"{name}.pt"
    net.load_state_dict(torch.load(path if path.exists() else earlier, map_location="cpu"))
    return net.to(args.device).eval().requires_grad_(False)


@torch.no_grad()
def latents_of(args, world, vae):
    """Mean and deviation of every picture's latents, standardised: [style, person, 2 · channels, h, w] in float16."""
    moments = []
    for style in range(len(world.styles)):
        for part in world.pictures[style].split(256):
            posterior = vae.encode(part.float() / 127.5 - 1).latent_dist
            moments.append(torch.cat([posterior.mean, posterior.std], 1).half())
    moments = torch.cat(moments)
    mean, deviation = moments.chunk(2, 1)
    shift = mean.float().mean().item() if args.job == "sd3" else 0.0
    factor = 1 / mean.float().std().item()
    vae.register_to_config(scaling_factor=round(factor, 5))
    if args.job == "sd3":
        vae.register_to_config(shift_factor=round(shift, 5))
    say(f"{args.job}: latents: scale {factor:.4f}, shift {shift:.4f}")
    moments = torch.cat([(mean.float() - shift) * factor, deviation.float() * factor], 1).half()
    return moments.view(len(world.styles), -1, *moments.shape[1:])


def token_table(args, world, tokenizers):
    """Ids [style · person · variant, length] of every tokenizer, and the ids of the empty prompt."""
    rng = random.Random(0)
    prompts = [
        texts.prompt(person, style, rng)
        for style in world.styles
        for person in world.people[: world.count]
        for _ in range(VARIANTS)
    ]
    tables, empties = [], []
    for tokenizer, length in tokenizers:
        encode = lambda lines: tokenizer(
            lines, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids.to(torch.int16)
        tables.append(torch.cat([encode(prompts[i : i + 50000]) for i in range(0, len(prompts), 50000)]).to(args.device))
        empties.append(encode([""]).to(args.device))
    return tables, empties


class Prompts:
    def __init__(self, args, world, tokenizers):
        started = time.time()
        kept = args.data / f"{args.job}-prompts.pt.xz"  # tokenizing takes a minute: `prompts` jobs keep it
        if kept.exists() and not args.smoke:
            self.tables, self.empties = torch.load(io.BytesIO(lzma.decompress(kept.read_bytes())), map_location=args.device)
        else:
            self.tables, self.empties = token_table(args, world, tokenizers)
        self.count = world.count
        say(f"{args.job}: {len(self.tables[0])} prompts tokenized in {time.time() - started:.1f} s")

    def keep(self, args):
        content = io.BytesIO()
        torch.save((self.tables, self.empties), content)
        (args.data / f"{args.job}-prompts.pt.xz").write_bytes(lzma.compress(content.getvalue(), preset=1))

    def of(self, style, person):
        """Ids for each tokenizer, and which prompts are now and then the empty one."""
        row = (style * self.count + person) * VARIANTS + torch.randint_like(style, VARIANTS)
        empty = torch.rand(len(row), device=row.device) < EMPTY
        return [torch.where(empty[:, None], e, t[row]).long() for t, e in zip(self.tables, self.empties)], empty


def sd3_states(net, ids):
    """Prompt embeddings [batch, 77 + T5 tokens, width] and pooled ones, as diffusers' pipeline makes them."""
    first = net["text_encoder"](ids[0], output_hidden_states=True)
    second = net["text_encoder_2"](ids[1], output_hidden_states=True)
    third = net["text_encoder_3"](ids[2])[0]
    clip = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
    clip = F.pad(clip, (0, third.shape[-1] - clip.shape[-1]))
    return torch.cat([clip, third], 1), torch.cat([first[0], second[0]], -1)


class Losses:
    """What a step learns from: the denoiser's error, and whether the texts were understood."""

    def __init__(self, args, net, world):
        self.net, self.world, self.sd3 = net, world, args.job == "sd3"
        self.eager = self.denoiser = net["transformer"] if self.sd3 else net["unet"]
        if args.device == "cuda":
            self.denoiser = torch.compile(self.eager)
        self.alphas = sd15_scheduler().alphas_cumprod.to(args.device)
        # Attributes and style from CLIP's summary and last place: both have seen the whole text. The
        # denoiser would teach the encoders the same, but takes longer.
        width = 48 + 64 + 48 + 64 if self.sd3 else 64
        outputs = len(texts.STYLES) + sum(len(values) for values in texts.ATTRIBUTES.values())
        self.read = nn.Linear(width, outputs).to(args.device)

    def run(self, *positional, **named):
        """The compiled denoiser, or the plain one where it cannot be compiled."""
        try:
            return self.denoiser(*positional, **named).sample
        except Exception as error:  # noqa: BLE001: whatever the compiler says, the training goes on
            if self.denoiser is self.eager:
                raise
            say(f"not compiled: {str(error)[:300]}")
            self.denoiser = self.eager
            return self.denoiser(*positional, **named).sample

    def understood(self, seen, style, person, empty):
        names, values = self.read(seen).split([len(texts.STYLES), self.read.out_features - len(texts.STYLES)], 1)
        # The photo of a person shows all attributes.
        labels = self.world.labels[0, person].masked_fill(empty[:, None], -1)
        return F.cross_entropy(names.float(), style.masked_fill(empty, -100)) + attribute_loss(values, labels)

    def of_sd3(self, latents, ids):
        # Now and then T5's default length, so that the net knows it.
        long = random.random() < 0.05
        if long:
            ids = [ids[0], ids[1], F.pad(ids[2], (0, 256 - ids[2].shape[1]))]
        states, pooled = sd3_states(self.net, ids)
        noise = torch.randn_like(latents)
        u = torch.sigmoid(torch.randn(len(latents), device=latents.device))
        sigma = 3 * u / (1 + 2 * u)
        s = sigma.view(-1, 1, 1, 1)
        inputs = dict(hidden_states=(1 - s) * latents + s * noise, timestep=sigma * 1000)
        inputs |= dict(encoder_hidden_states=states, pooled_projections=pooled)
        velocity = self.eager(**inputs).sample if long else self.run(**inputs)
        return F.mse_loss(velocity.float(), noise - latents), torch.cat([pooled, states[:, 76, :112]], 1)

    def of_sd15(self, latents, ids):
        states = self.net["text_encoder"](ids[0])[0]
        noise = torch.randn_like(latents)
        t = torch.randint(1000, (len(latents),), device=latents.device)
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        seen = self.run(noisy, t, encoder_hidden_states=states)
        snr = self.alphas[t] / (1 - self.alphas[t])
        each = ((seen.float() - noise) ** 2).mean((1, 2, 3))
        # Steps that are easy in the noise weigh less (min-SNR).
        return (each * (snr.clamp(max=5) / snr)).mean(), states[:, 76]

    def __call__(self, latents, ids, style, person, empty):
        error, seen = (self.of_sd3 if self.sd3 else self.of_sd15)(latents, ids)
        return error, self.understood(seen, style, person, empty)


def tokenizers_of(args):
    """As the mini checkpoints have them."""
    load = transformers.AutoTokenizer.from_pretrained
    if args.job == "sd3":
        folder = args.tokenizers / "mini-sd3"
        return [(load(folder / "tokenizer"), 77), (load(folder / "tokenizer_2"), 77), (load(folder / "tokenizer_3"), nets.T5_TOKENS)]
    return [(load(args.tokenizers / "mini-sd-v1-5/tokenizer"), 77)]


def sd15_scheduler():
    """PNDM as published."""
    return diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
    )


def pipeline(args, net, vae, tokenizers):
    parts = dict(net.items()) | {"vae": vae}
    if args.job == "sd3":
        parts |= {name: t for name, (t, _) in zip(["tokenizer", "tokenizer_2", "tokenizer_3"], tokenizers)}
        return diffusers.StableDiffusion3Pipeline(scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), **parts)
    return diffusers.StableDiffusionPipeline(
        scheduler=sd15_scheduler(), tokenizer=tokenizers[0][0], safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, **parts,
    )


@torch.no_grad()
def samples(args, world, net, vae, tokenizers):
    """Draws held-out people in every style; a grid, and what the art-Inception sees in it."""
    pipe = pipeline(args, net.float(), vae.float(), tokenizers)
    pipe.set_progress_bar_config(disable=True)
    steps, many = (2, 2) if args.smoke else (20, 40)
    options = dict(num_inference_steps=steps, height=world.size, width=world.size, output_type="pt")
    if args.job == "sd3":
        options["max_sequence_length"] = nets.T5_TOKENS
    judge = judge_of(args)
    figures = {}
    for guidance in [4.0] if args.smoke else [3.0, 5.0]:
        sheet = []
        for s, style in enumerate(world.styles):
            people = range(world.count, world.count + many)
            lines = [f"{texts.appearance(world.people[p]).rstrip('.')}, {texts.STYLE_TEXTS[style][p % 2]}" for p in people]
            generator = torch.Generator("cpu").manual_seed(s)
            drawn = pipe(lines, generator=generator, guidance_scale=guidance, **options).images * 2 - 1
            sheet.append(drawn[:14])
            if judge is not None:
                names, values = judge(F.interpolate(drawn.to(args.device), 224, mode="bicubic").clamp(-1, 1))
                seen = dict(style=(names.argmax(1) == s).float().mean().item())
                figures[f"{guidance} {style}"] = seen | attribute_accuracy(values, world.labels[s, list(people)])
                say(args.job, guidance, style, figures[f"{guidance} {style}"])
        grid(torch.cat(sheet), args.out / f"{args.job}-{guidance}.png", len(sheet[0]))
    return figures


def judge_of(args):
    folders = [folder for folder in [args.out, args.resume] if folder and (folder / "art-inception.pt").exists()]
    if not folders:
        return None
    path = folders[0] / "art-inception.pt"
    import inception_reference as reference

    net = nets.art_inception(reference)
    net.load_state_dict(torch.load(path, map_location="cpu"))
    net.to(args.device).eval()
    return lambda x: net((x + 1) / 2)[:2]


def main():
    args = options("prompts")
    world = World(args)
    tokenizers = tokenizers_of(args)
    prompts = Prompts(args, world, tokenizers)
    if args.prompts:
        return prompts.keep(args)
    if args.job == "sd3":
        net = nets.sd3(len(tokenizers[0][0]), len(tokenizers[2][0]))
    else:
        net = nets.sd15(len(tokenizers[0][0]))
    net = resume(args, args.job, net).eval()  # no dropout: the pictures are few, the nets small
    losses = Losses(args, net, world)
    waited = time.time()
    vae = vae_of(args)
    args.seconds -= time.time() - waited
    moments = latents_of(args, world, vae)
    training = Training(args, args.job, net, 1e-3, losses.read, ema=0.999)
    batch = args.batch or (4 if args.smoke else 256)
    better = args.out / f"{args.job}-vae.json"
    renewed = better.exists()
    while training.running():
        if not renewed and training.step % 20 == 0 and better.exists():
            # The autoencoder has learnt on beside this training: its latents from now on.
            vae, renewed = vae_of(args), True
            moments = latents_of(args, world, vae)
        style, person = world.draw(batch)
        mean, deviation = moments[style, person].float().chunk(2, 1)
        latents = mean + deviation * torch.randn_like(mean)
        ids, empty = prompts.of(style, person)
        with autocast(args):
            error, understood = losses(latents, ids, style, person, empty)
        training.update(error + 0.02 * understood, error=error, understood=understood)
    training.save()
    config = {key: vae.config[key] for key in ["scaling_factor", "shift_factor"]}
    (args.out / f"{args.job}-latents.json").write_text(json.dumps(config))
    figures = samples(args, world, training.average, vae, tokenizers)
    training.finish(latents=config, samples=figures)


if __name__ == "__main__":
    main()
