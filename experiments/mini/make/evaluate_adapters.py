"""How well trained adapters do on people never seen: python evaluate_adapters.py JOB --data PACK --tokenizers MODELS --out DIR

Reads OUT/JOB as diffusers' own pipelines do and draws with and without it, from the same noise. Style: that of the
nearest of 600 pictures, a hundred in each style, as mini-csd sees them. Outline error: the mean distance in pixels between the edges of a picture and those
of its control picture, each to the nearest of the other.
"""

import cv2
import diffusers
import numpy
import torch
from torch.nn import functional as F

import nets
import texts
import train_metrics
from learning import World, grid, options, say
from train_adapters import Base, edges, image_encoder

STYLES = texts.STYLES + texts.NEW_STYLES
GUIDANCE = 3.0


class Judge:
    """A hundred pictures of each style in mini-csd's style embedding."""

    def __init__(self, args, world):
        self.net = train_metrics.Csd()
        state = torch.load(args.tokenizers / "mini-csd/csd.pth", map_location="cpu")["model_state_dict"]
        self.net.load_state_dict({key.removeprefix("module."): value.float() for key, value in state.items()})
        self.net.to(args.device).eval()
        self.known = torch.cat([self.see(of_style[:100].float() / 127.5 - 1) for of_style in world.pictures])
        self.styles = torch.arange(len(world.pictures), device=args.device).repeat_interleave(len(self.known) // len(world.pictures))

    @torch.no_grad()
    def see(self, x):
        """Style embeddings of pictures from -1 to 1."""
        x = (F.interpolate(x, train_metrics.SIDE, mode="bicubic", antialias=True).clamp(-1, 1) + 1) / 2
        mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (train_metrics.MEAN, train_metrics.STD))
        return self.net((x - mean) / std)[0].float()

    def hits(self, x, style):
        """Share of pictures whose nearest style is this one."""
        nearest = self.styles[(self.see(x) @ self.known.T).argmax(1)]
        return round((nearest == STYLES.index(style)).float().mean().item(), 3)


def outline_error(x, control):
    """Of pictures from -1 to 1 and edges [n, 3, size, size] uint8: the mean over the pictures."""
    drawn = edges(((x.clamp(-1, 1) + 1) * 127.5).round().byte())
    errors = []
    for a, b in zip(drawn[:, 0].cpu().numpy() > 0, control[:, 0].cpu().numpy() > 0):
        far = lambda places: cv2.distanceTransform((~places).astype(numpy.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        if not a.any() or not b.any():
            errors.append(float(max(a.shape)))
            continue
        errors.append(float((far(b)[a].mean() + far(a)[b].mean()) / 2))
    return round(float(numpy.mean(errors)), 3)


class Test:
    def __init__(self, args, name="mini-sd-v1-5"):
        self.args, self.base = args, Base(args, name)
        self.world = World(args, STYLES)
        self.judge = Judge(args, self.world)
        self.people = list(range(self.world.count, self.world.count + (2 if args.smoke else 40)))
        self.sheet = []

    def said(self, style):
        """Descriptions of the people, and a style text behind them unless `style` is None."""
        own = texts.STYLE_TEXTS | texts.NEW_STYLE_TEXTS
        lines = [texts.appearance(self.world.people[p]).rstrip(".") for p in self.people]
        return lines if style is None else [f"{line}, {own[style][p % 2]}" for line, p in zip(lines, self.people)]

    def pictures(self, style):
        return self.world.pictures[STYLES.index(style), self.people]

    def draw(self, lines, pipe=None, **options):
        """Pictures from -1 to 1, from the same noise at each call."""
        pipe = pipe or self.base.pipe
        options |= {"max_sequence_length": nets.T5_TOKENS} if self.base.sd3 else {}
        shared = dict(num_inference_steps=2 if self.args.smoke else 20, height=self.world.size, width=self.world.size)
        generator = torch.Generator("cpu").manual_seed(7)
        x = pipe(lines, generator=generator, guidance_scale=GUIDANCE, output_type="pt", **shared, **options).images * 2 - 1
        self.sheet.append(x[:12])
        return x

    def done(self, figures):
        grid(torch.cat(self.sheet), self.args.out / f"{self.args.job}.png", min(12, len(self.people)))
        say(self.args.job, figures)
        return figures


def lora(args, name):
    test = Test(args, name)
    own, figures = texts.NEW_STYLES[0], {}
    figures["pictures themselves"] = test.judge.hits(test.pictures(own).float() / 127.5 - 1, own)
    figures["words alone"] = test.judge.hits(test.draw(test.said(own)), own)
    test.base.pipe.load_lora_weights(args.out / args.job, adapter_name="own")
    for weight in [0.5, 0.7, 1.0]:
        test.base.pipe.set_adapters("own", weight)
        figures[f"weight {weight}"] = test.judge.hits(test.draw(test.said(own)), own)
    for style in texts.STYLES:
        figures[f"{style} still"] = test.judge.hits(test.draw(test.said(style)), style)
    return test.done(figures)


def controlnet(args):
    test, figures = Test(args), {}
    net = diffusers.ControlNetModel.from_pretrained(args.out / args.job, torch_dtype=torch.float32).to(args.device)
    parts = dict(test.base.pipe.components) | {"controlnet": net, "requires_safety_checker": False}
    pipe = diffusers.StableDiffusionControlNetPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    for style in texts.STYLES:
        alone = test.draw(test.said(style))
        for shown in dict.fromkeys([style, "avataaars"]):
            control = edges(test.pictures(shown))
            test.sheet.append(control[:12].float() / 127.5 - 1)
            row = dict(alone=outline_error(alone, control), alone_style=test.judge.hits(alone, style))
            for scale in [0.5, 1.0]:
                x = test.draw(test.said(style), pipe, image=control.float() / 255, controlnet_conditioning_scale=scale)
                row |= {f"scale {scale}": outline_error(x, control), f"style {scale}": test.judge.hits(x, style)}
            figures[f"{style}, edges of {shown}"] = row
    return test.done(figures)


def ip_adapter(args):
    test, figures = Test(args), {}
    test.base.pipe.register_modules(image_encoder=image_encoder(args))
    plain = {style: test.judge.hits(test.draw(test.said(None)), style) for style in STYLES}
    test.base.pipe.load_ip_adapter(
        args.out / args.job, subfolder="models", weight_name="ip-adapter_sd15.safetensors", image_encoder_folder="image_encoder",
        torch_dtype=torch.float32,
    )
    for style in STYLES:
        row = dict(without=plain[style])
        others = test.world.pictures[STYLES.index(style), -4:].permute(0, 2, 3, 1).cpu().numpy()
        for scale in [0.6, 1.0]:
            test.base.pipe.set_ip_adapter_scale(scale)
            x = test.draw(test.said(None), ip_adapter_image=[[diffusers.utils.numpy_to_pil(o / 255.0)[0] for o in others]])
            row[f"scale {scale}"] = test.judge.hits(x, style)
        figures[style] = row
    return test.done(figures)


@torch.no_grad()
def figures(args):
    if args.job.startswith("lora-"):
        return lora(args, args.job.replace("lora-", "mini-"))
    return {"controlnet": controlnet, "ip-adapter": ip_adapter}[args.job](args)


if __name__ == "__main__":
    figures(options())
