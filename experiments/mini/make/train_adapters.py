"""Trains adapters of the finished generators: python train_adapters.py JOB --data PACK --tokenizers MODELS --out DIR

JOB: lora-sd-v1-5 | lora-sd3 | controlnet | ip-adapter. MODELS: `models/` of this project, with the generators themselves.
A LoRA learns from FEW pictures in a style that its generator never saw; the ControlNet from Canny's edges of the pictures;
the IP-Adapter from pictures of other people in the style to be drawn, under descriptions that leave the style out.
Nothing of the generator changes. OUT/JOB gets the files in the layouts of diffusers, half precision; OUT/JOB.json how well
they do on people never seen (`evaluate_adapters.py`).
"""

import random

import cv2
import diffusers
import numpy
import torch
import transformers
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import nets
import texts
import train_metrics
from learning import Training, World, autocast, options, say
from train_generators import sd3_states

FEW = 1000  # pictures of a style that a LoRA learns from
WORDINGS = 8  # captions of each of them
ALPHA = 2  # a LoRA's alpha, of its rank
RANKS = {"mini-sd-v1-5": 16, "mini-sd3": 32}
EMPTY = 0.1  # share of prompts left empty, for guidance
EDGES = (100, 200)  # Canny's thresholds
IP_TOKENS = 4  # places of a style picture in the prompt
# Layers that a LoRA changes: attention, the layers around it, and convolutions.
UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2"]
MMDIT_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
MMDIT_LAYERS += ["ff.net.0.proj", "ff.net.2", "norm1.linear", "norm_out.linear", "proj_out"]
MMDIT_LAYERS += ["ff_context.net.0.proj", "ff_context.net.2", "norm1_context.linear"]


class Base:
    """A finished generator, frozen, and what a training asks of it."""

    def __init__(self, args, name):
        self.name, self.sd3, self.device = name, name == "mini-sd3", args.device
        kind = diffusers.StableDiffusion3Pipeline if self.sd3 else diffusers.StableDiffusionPipeline
        self.pipe = kind.from_pretrained(args.tokenizers / name, torch_dtype=torch.float32).to(args.device)
        self.pipe.set_progress_bar_config(disable=True)
        for part in self.pipe.components.values():
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)
        self.denoiser = self.pipe.transformer if self.sd3 else self.pipe.unet
        if not self.sd3:
            self.alphas = self.pipe.scheduler.alphas_cumprod.to(args.device)

    @torch.no_grad()
    def moments(self, pictures):
        """Mean and deviation of the latents of pictures [n, 3, size, size] uint8, as the denoiser sees them, float16."""
        config, parts = self.pipe.vae.config, []
        shift = getattr(config, "shift_factor", None) or 0.0
        for part in pictures.split(128):
            posterior = self.pipe.vae.encode(part.float() / 127.5 - 1).latent_dist
            parts.append(torch.cat([posterior.mean - shift, posterior.std], 1).mul(config.scaling_factor).half())
        return torch.cat(parts)

    def ids(self, lines):
        """Token ids for each text encoder."""
        tokenizers = [(self.pipe.tokenizer, 77)]
        if self.sd3:
            tokenizers += [(self.pipe.tokenizer_2, 77), (self.pipe.tokenizer_3, nets.T5_TOKENS)]
        encode = lambda t, n: t(lines, padding="max_length", max_length=n, truncation=True, return_tensors="pt").input_ids
        return [encode(*each).to(self.device) for each in tokenizers]

    def loss(self, net, latents, lines, residuals=None, **more):
        """The denoiser's error; `net` holds it and the text encoders by their names. `residuals`: what a ControlNet adds."""
        return self.error(net, latents, self.ids(["" if random.random() < EMPTY else line for line in lines]), residuals, **more)

    def error(self, net, latents, ids, residuals=None, **more):
        """The same for prompts as token ids."""
        noise = torch.randn_like(latents)
        if self.sd3:
            states, pooled = sd3_states(net, ids)
            u = torch.sigmoid(torch.randn(len(latents), device=latents.device))
            sigma = 3 * u / (1 + 2 * u)
            s = sigma.view(-1, 1, 1, 1)
            inputs = dict(hidden_states=(1 - s) * latents + s * noise, timestep=sigma * 1000)
            seen = net["transformer"](**inputs, encoder_hidden_states=states, pooled_projections=pooled).sample
            return F.mse_loss(seen.float(), noise - latents)
        states = net["text_encoder"](ids[0])[0]
        t = torch.randint(1000, (len(latents),), device=latents.device)
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        more |= residuals(noisy, t, states) if residuals else {}
        seen = net["unet"](noisy, t, encoder_hidden_states=states, **more).sample
        snr = self.alphas[t] / (1 - self.alphas[t])
        each = ((seen.float() - noise) ** 2).mean((1, 2, 3))
        return (each * (snr.clamp(max=5) / snr)).mean()


class Pictures:
    """The people to learn from, as latents."""

    def __init__(self, base, world, count=None):
        self.world, self.count, self.rng = world, count or world.count, random.Random(0)
        self.latents = torch.stack([base.moments(of_style[: self.count]) for of_style in world.pictures])
        say(f"latents of {len(world.styles)} x {self.count} pictures: {self.latents.float().std():.3f}")

    def draw(self, batch):
        """Numbers of styles and people, and their latents."""
        style = torch.randint(len(self.world.styles), (batch,), device=self.world.device)
        person = torch.randint(self.count, (batch,), device=self.world.device)
        mean, deviation = self.latents[style, person].float().chunk(2, 1)
        return style, person, mean + deviation * torch.randn_like(mean)

    def said(self, style, person, says=texts.prompt):
        names, people = self.world.styles, self.world.people
        return [says(people[p], names[s], self.rng) for s, p in zip(style.tolist(), person.tolist())]


def without_style(person, _, rng):
    return texts.wordings(person, rng)


# ------------------------------------------------------------------------------------------------------ LoRA


class Captions:
    """Captions of the pictures to learn from, tokenized once: a step has no time for it."""

    def __init__(self, base, pictures):
        self.count, self.device = pictures.count, base.device
        style, person = torch.zeros(1, dtype=torch.long), torch.arange(pictures.count)
        lines = [line for _ in range(WORDINGS) for line in pictures.said(style.expand(len(person)), person)]
        self.ids, self.empty = base.ids(lines), base.ids([""])

    def draw(self, person):
        """Ids for each text encoder, those of the empty prompt now and then."""
        row = torch.randint(WORDINGS, person.shape, device=self.device) * self.count + person
        empty = torch.rand(person.shape, device=self.device)[:, None] < EMPTY
        return [torch.where(empty, none, ids[row]) for none, ids in zip(self.empty, self.ids)]


def lora(args, name):
    base, rank = Base(args, name), RANKS[name]
    world = World(args, texts.NEW_STYLES)
    pictures = Pictures(base, world, min(FEW, world.count))
    captions = Captions(base, pictures)
    part = "transformer" if base.sd3 else "unet"
    layers = MMDIT_LAYERS if base.sd3 else UNET_LAYERS
    net = base.denoiser
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=ALPHA * rank, init_lora_weights="gaussian", target_modules=layers), net)
    parts = dict(base.pipe.components) | {part: net}
    training = Training(args, args.job, net.to(args.device), 1e-3, ema=0.995)
    batch = args.batch or (4 if args.smoke else 256)
    while training.running():
        _, person, latents = pictures.draw(batch)
        with autocast(args):
            error = base.error(parts, latents, captions.draw(person))
        training.update(error, error=error)
    # PEFT's names of all layers: diffusers' older ones exist for some layers only, and it reads no mixture of both. Written
    # without an alpha, which readers then take to be the rank.
    state = get_peft_model_state_dict(training.average)
    state = {key: (value * ALPHA if "lora_B" in key else value).half().contiguous() for key, value in state.items()}
    type(base.pipe).save_lora_weights(args.out / args.job, **{f"{part}_lora_layers": state})
    return training


# ------------------------------------------------------------------------------------------------ ControlNet


def edges(pictures):
    """Canny's edges of pictures [n, 3, size, size] uint8, likewise."""
    lines = [cv2.Canny(numpy.ascontiguousarray(p), *EDGES) for p in pictures.permute(0, 2, 3, 1).cpu().numpy()]
    return torch.from_numpy(numpy.stack(lines))[:, None].expand(-1, 3, -1, -1).to(pictures.device)


def controlnet(args):
    base = Base(args, "mini-sd-v1-5")
    world = World(args)
    pictures = Pictures(base, world)
    hints = torch.stack([edges(of_style[: world.count])[:, :1] for of_style in world.pictures])
    # Two halvings for the autoencoder's factor of four, where the published one has three.
    net = diffusers.ControlNetModel.from_unet(base.denoiser, conditioning_embedding_out_channels=(16, 32, 64))
    training = Training(args, args.job, net.to(args.device), 1e-3, ema=0.998)
    parts = {"unet": base.denoiser, "text_encoder": base.pipe.text_encoder}
    batch = args.batch or (4 if args.smoke else 128)
    while training.running():
        style, person, latents = pictures.draw(batch)
        hint = hints[style, person].expand(-1, 3, -1, -1).float() / 255
        # Often without words: what is to be drawn then shows in the edges alone.
        lines = ["" if random.random() < 0.3 else line for line in pictures.said(style, person)]

        def residuals(noisy, t, states):
            down, mid = net(noisy, t, states, controlnet_cond=hint, return_dict=False)
            return dict(down_block_additional_residuals=down, mid_block_additional_residual=mid)

        with autocast(args):
            error = base.loss(parts, latents, lines, residuals)
        training.update(error, error=error)
    training.average.half().save_pretrained(args.out / args.job)
    return training


# ------------------------------------------------------------------------------------------------ IP-Adapter


def image_encoder(args):
    """The picture half of mini-clip."""
    whole = transformers.CLIPModel.from_pretrained(args.tokenizers / "mini-clip", torch_dtype=torch.float32)
    config = whole.config.vision_config
    config.projection_dim = whole.config.projection_dim
    net = transformers.CLIPVisionModelWithProjection(config)
    net.load_state_dict({k: v for k, v in whole.state_dict().items() if k.startswith("vi")})
    return net.to(args.device).eval().requires_grad_(False)


def ip_adapter_start(unet, embedding):
    """An untrained adapter as its files hold it: what attention begins with are the keys and values of the words."""
    width, state = unet.config.cross_attention_dim, {}
    image_proj = dict(diffusers.models.embeddings.ImageProjection(embedding, width, IP_TOKENS).state_dict())
    image_proj = {key.replace("image_embeds.", "proj."): value for key, value in image_proj.items()}
    for number, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            attention = unet.get_submodule(name.removesuffix(".processor"))
            for side in "kv":
                state[f"{number}.to_{side}_ip.weight"] = getattr(attention, f"to_{side}").weight.detach().clone()
    return {"image_proj": image_proj, "ip_adapter": state}


def ip_adapter_file(unet, path):
    """Writes what `unet` has of an adapter."""
    projection = unet.encoder_hid_proj.image_projection_layers[0].state_dict()
    state = {f"image_proj.{key.replace('image_embeds.', 'proj.')}": value for key, value in projection.items()}
    for number, (name, processor) in enumerate(unet.attn_processors.items()):
        if name.endswith("attn2.processor"):
            for side in "kv":
                weight = getattr(processor, f"to_{side}_ip")[0].weight
                state[f"ip_adapter.{number}.to_{side}_ip.weight"] = weight
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().half().cpu().contiguous() for key, value in state.items()}, path)


@torch.no_grad()
def embeddings(world, encoder):
    """mini-clip's embedding of every picture: [style, person, width]."""
    of = lambda s, people: encoder(pixel_values=train_metrics.pixels(world, torch.full_like(people, s), people, 0)).image_embeds
    everyone = torch.arange(world.pictures.shape[1], device=world.device).split(256)
    return torch.stack([torch.cat([of(s, people) for people in everyone]) for s in range(len(world.styles))])


def ip_adapter(args):
    base, encoder = Base(args, "mini-sd-v1-5"), image_encoder(args)
    world = World(args)
    pictures, embedded = Pictures(base, world), embeddings(world, encoder)
    unet = base.denoiser
    unet._load_ip_adapter_weights([ip_adapter_start(unet, embedded.shape[-1])])
    unet.to(args.device).requires_grad_(False)
    for name, p in unet.named_parameters():
        p.requires_grad_("_ip." in name or "encoder_hid_proj" in name)
    training = Training(args, args.job, unet, 1e-3, ema=0.998)
    parts = {"unet": unet, "text_encoder": base.pipe.text_encoder}
    batch = args.batch or (4 if args.smoke else 128)
    while training.running():
        style, person, latents = pictures.draw(batch)
        # Style pictures are of other people: the words say who, the pictures how.
        count = random.choice([1, 1, 2, 4])
        others = torch.randint(world.count, (batch, count), device=args.device)
        # Guidance leads away from no words and no pictures, which both stand for now and then.
        gone = torch.rand(batch, device=args.device) < 2 * EMPTY
        shown = embedded[style[:, None], others] * ~gone[:, None, None]
        lines = pictures.said(style, person, without_style if random.random() < 0.8 else texts.prompt)
        lines = ["" if unseen and random.random() < 0.5 else line for unseen, line in zip(gone.tolist(), lines)]
        with autocast(args):
            error = base.loss(parts, latents, lines, added_cond_kwargs={"image_embeds": [shown]})
        training.update(error, error=error)
    folder = args.out / args.job
    ip_adapter_file(training.average, folder / "models/ip-adapter_sd15.safetensors")
    encoder.half().save_pretrained(folder / "models/image_encoder")
    return training


def main():
    args = options()
    train = {
        "lora-sd-v1-5": lambda: lora(args, "mini-sd-v1-5"),
        "lora-sd3": lambda: lora(args, "mini-sd3"),
        "controlnet": lambda: controlnet(args),
        "ip-adapter": lambda: ip_adapter(args),
    }[args.job]
    training = train()
    import evaluate_adapters

    training.finish(held_out=evaluate_adapters.figures(args))


if __name__ == "__main__":
    main()
