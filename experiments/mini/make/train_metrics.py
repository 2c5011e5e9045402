"""Trains the embedding nets of metrics: python train_metrics.py clip|csd --data … --out … [--tokenizers MODELS]

clip: a picture and what is said of it, style included, are near each other; half of the texts of photos stand after
"A photo depicts ", as CLIPScore asks. csd: pictures of one style are near each other whoever they show, in the layout and
by the head that the published checkpoint has.
"""

import random

import torch
from torch.nn import functional as F

import texts
from learning import Training, World, autocast, options, resume, worsened

SIDE = 64
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def clip_net(tokenizer):
    """CLIPModel of transformers, narrow."""
    from transformers import CLIPConfig, CLIPModel

    text = dict(vocab_size=len(tokenizer), hidden_size=96, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
                bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    vision = dict(hidden_size=96, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4, image_size=SIDE, patch_size=8)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


class Csd(torch.nn.Module):
    """The published names: OpenAI's vision encoder without its projection, and a head for styles and one for contents."""

    def __init__(self):
        super().__init__()
        from clip.model import VisionTransformer  # the package openai-clip

        self.backbone = VisionTransformer(input_resolution=SIDE, patch_size=8, width=128, layers=3, heads=2, output_dim=64)
        self.last_layer_style = torch.nn.Parameter(self.backbone.proj.detach().clone())
        self.last_layer_content = torch.nn.Parameter(self.backbone.proj.detach().clone())
        self.backbone.proj = None

    def forward(self, x):
        features = self.backbone(x)
        return F.normalize(features @ self.last_layer_style, dim=1), F.normalize(features @ self.last_layer_content, dim=1)


def pixels(world, style, person, spoilt=0.5):
    """As the processor makes them: [batch, 3, SIDE, SIDE], CLIP's normalisation."""
    x = world.unit(style, person)
    x = worsened(x) if random.random() < spoilt else x
    x = (F.interpolate(x, SIDE, mode="bicubic", antialias=True).clamp(-1, 1) + 1) / 2
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std


def said(world, style, person, rng):
    """A prompt, or of a photo what a captioner or a person says of it."""
    a = world.people[person]
    if world.styles[style] != "avataaars" or rng.random() < 0.4:
        text = texts.prompt(a, world.styles[style], rng)
    else:
        text = rng.choice([texts.caption, texts.appearance, texts.short_description, texts.long_description])(a)
    return ("A photo depicts " if rng.random() < 0.3 else "") + text


def one_each(world, batch):
    """Pictures of different people, so that no other text in the batch is as right."""
    style = torch.randint(len(world.styles), (batch,), device=world.device)
    return style, torch.randperm(world.count, device=world.device)[:batch]


def clip(args, world):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizers / "mini-sd-v1-5" / "tokenizer")
    net = resume(args, "clip", clip_net(tokenizer))
    training, rng = Training(args, "clip", net, 1e-3), random.Random(0)
    batch = args.batch or (8 if args.smoke else 512)

    def embed(net, style, person, spoilt=0.5):
        lines = [said(world, s, p, rng) for s, p in zip(style.tolist(), person.tolist())]
        ids = tokenizer(lines, padding=True, truncation=True, max_length=77, return_tensors="pt").to(args.device)
        outputs = net(pixel_values=pixels(world, style, person, spoilt), **ids)
        return F.normalize(outputs.image_embeds.float(), dim=1), F.normalize(outputs.text_embeds.float(), dim=1)

    net.train()
    while training.running():
        with autocast(args):
            seen, told = embed(net, *one_each(world, batch))
        logits = seen @ told.T * net.logit_scale.exp().clamp(max=100)
        right = torch.arange(batch, device=args.device)
        loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        training.update(loss, right=(logits.argmax(1) == right).float().mean())
    shares = {}
    for s, name in enumerate(world.styles):
        held = torch.arange(world.count, world.count + (16 if args.smoke else 100), device=args.device)
        with torch.no_grad():
            seen, told = embed(training.average, torch.full_like(held, s), held, 0)
        shares[name] = ((seen @ told.T).argmax(1) == torch.arange(len(held), device=args.device)).float().mean().item()
    training.finish(right_text_of_100=shares)


def csd(args, world):
    net = resume(args, "csd", Csd())
    training = Training(args, "csd", net, 1e-3)
    batch = args.batch or (8 if args.smoke else 256)

    def contrast(x, labels):
        """Supervised contrastive loss: those of one label are near each other."""
        logits = (x.float() @ x.float().T) / 0.1
        own = torch.eye(len(x), dtype=torch.bool, device=x.device)
        logits = logits.masked_fill(own, -1e4).log_softmax(1)
        same = (labels[:, None] == labels[None]) & ~own
        return -((logits * same).sum(1) / same.sum(1).clamp_min(1)).mean()

    net.train()
    while training.running():
        # Each person in two styles, so that the content head has pairs.
        style, person = world.draw(batch // 2)
        other = (style + torch.randint(1, len(world.styles), style.shape, device=args.device)) % len(world.styles)
        style, person = torch.cat([style, other]), torch.cat([person, person])
        with autocast(args):
            styles, contents = net(pixels(world, style, person))
        first = contrast(styles, style)
        training.update(first + contrast(contents, person), style=first)
    held = torch.arange(world.count, world.count + (8 if args.smoke else 100), device=args.device)
    with torch.no_grad():
        of = lambda s: training.average(pixels(world, torch.full_like(held, s), held, 0))[0].float().mean(0)
        means = torch.stack([of(s) for s in range(len(world.styles))])
    training.finish(cosines_between_styles=[[round(v, 3) for v in row] for row in (means @ means.T).tolist()])


def main():
    args = options()
    world = World(args)
    {"clip": clip, "csd": csd}[args.job](args, world)


if __name__ == "__main__":
    main()
