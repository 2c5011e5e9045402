"""What all trainings share: the pictures, the clock that ends a training, the averaged weights."""

import argparse
import copy
import json
import lzma
import math
import random
import time
from pathlib import Path

import numpy
import torch
from torch.nn import functional as F

import texts

HELD_OUT = 200  # the last people of the pack: never learnt from


def options(*flags):
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("--data", type=Path, required=True, help="the pack: STYLE.rgb.xz, people.json")
    parser.add_argument("--tokenizers", type=Path, help="folder of the models' tokenizers")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="folder of states to go on from")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--lr", type=float, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few steps of everything")
    for flag in flags:
        parser.add_argument(f"--{flag}", action="store_true")
    args = parser.parse_args()
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    args.out.mkdir(parents=True, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    if args.device == "cpu":
        torch.set_num_threads(1)
    return args


def say(*what):
    print(f"[{time.strftime('%H:%M:%S')}]", *what, flush=True)


class World:
    """The pack on the device: `pictures` uint8 [style, person, 3, size, size], `labels` per attribute."""

    def __init__(self, args, styles=texts.STYLES):
        started = time.time()
        pack = json.loads((args.data / "people.json").read_text())
        people = pack["people"]
        self.size, self.styles, self.device = pack["size"], list(styles), args.device
        pictures = []
        for style in self.styles:
            raw = lzma.decompress((args.data / f"{style}.rgb.xz").read_bytes())
            raw = numpy.frombuffer(raw, numpy.uint8).reshape(-1, self.size, self.size, 3)
            if args.smoke:
                raw = numpy.concatenate([raw[:40], raw[-HELD_OUT:][:24]])
            pictures.append(torch.from_numpy(raw.copy()).to(self.device).permute(0, 3, 1, 2).contiguous())
        self.pictures = torch.stack(pictures)
        if args.smoke:
            people = people[:40] + people[-HELD_OUT:][:24]
        self.count = len(people) - (24 if args.smoke else HELD_OUT)
        self.people = [person["attributes"] for person in people]
        # [style, person, attribute]: the number of the value, -1 where the picture does not show it
        number = lambda name, value: -1 if value is None else texts.ATTRIBUTES[name].index(value)
        shown = [[[number(n, p["shown"][s][n]) for n in texts.ATTRIBUTES] for p in people] for s in self.styles]
        self.labels = torch.tensor(shown, device=self.device)
        say(f"{len(self.styles)} styles x {len(people)} people loaded in {time.time() - started:.1f} s")

    def draw(self, batch):
        """Random pictures of the people to learn from: numbers of styles and people."""
        style = torch.randint(len(self.styles), (batch,), device=self.device)
        return style, torch.randint(self.count, (batch,), device=self.device)

    def unit(self, style, person):
        """[batch, 3, size, size] from -1 to 1."""
        return self.pictures[style, person].float() / 127.5 - 1


def worsened(x):
    """Slightly blurred, noisy, shifted pictures, as generators draw them: judges must not hang on pixels."""
    side = random.choice([48, 64, 80, 96, 96])
    x = F.interpolate(F.interpolate(x, side, mode="bilinear", antialias=True), x.shape[-1], mode="bicubic")
    dy, dx = random.randrange(-2, 3), random.randrange(-2, 3)
    x = torch.roll(x, (dy, dx), (2, 3))
    x = x * (1 + 0.1 * torch.randn(len(x), 1, 1, 1, device=x.device))
    return (x + 0.06 * torch.rand(len(x), 1, 1, 1, device=x.device) * torch.randn_like(x)).clamp(-1, 1)


def attribute_loss(logits, labels):
    """Cross-entropy of each attribute's group of logits; what is not shown does not count."""
    groups = logits.float().split([len(values) for values in texts.ATTRIBUTES.values()], 1)
    losses = [F.cross_entropy(g, labels[:, i], ignore_index=-1, reduction="sum") for i, g in enumerate(groups)]
    return sum(losses) / labels.shape[0]


def attribute_accuracy(logits, labels):
    """Share of right answers per attribute."""
    groups = logits.float().split([len(values) for values in texts.ATTRIBUTES.values()], 1)
    shares = {}
    for i, (name, group) in enumerate(zip(texts.ATTRIBUTES, groups)):
        known = labels[:, i] >= 0
        right = (group.argmax(1) == labels[:, i])[known].float()
        shares[name] = round(right.mean().item(), 3) if known.any() else None
    return shares


class Training:
    """Steps until the clock ends them: warm-up, constant rate, then down to zero over the last third."""

    def __init__(self, args, name, net, lr, extra=None, ema=0.999):
        self.args, self.name, self.net, self.lr, self.decay = args, name, net, args.lr or lr, ema
        parameters = list(net.parameters()) + (list(extra.parameters()) if extra is not None else [])
        self.parameters = [p for p in parameters if p.requires_grad]
        matrices = [p for p in self.parameters if p.dim() > 1]
        groups = [dict(params=matrices, weight_decay=0.01)]
        groups += [dict(params=[p for p in self.parameters if p.dim() <= 1], weight_decay=0.0)]
        fused = args.device == "cuda"
        self.optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.99), fused=fused)
        self.average = copy.deepcopy(net).eval().requires_grad_(False)
        self.step, self.started, self.saved, self.said = 0, time.time(), time.time(), time.time()
        self.seconds = args.seconds
        pairs = zip(self.average.parameters(), net.parameters())
        self.pairs = [list(side) for side in zip(*pairs)]
        self.buffers = [list(s) for s in zip(*[(a, b) for a, b in zip(self.average.buffers(), net.buffers())])]

    def running(self):
        elapsed = time.time() - self.started
        part = elapsed / self.seconds
        if self.args.smoke:
            part = self.step / 3
        if part >= 1:
            return False
        rate = self.lr * min(1, (self.step + 1) / (5 if self.args.smoke else 200)) * min(1, 3 * (1 - part))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return True

    def update(self, loss, **shown):
        """One step of the optimiser and of the average; `shown` values are logged now and then."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        weight = 1 - min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.pairs[0], [p.detach() for p in self.pairs[1]], weight)
            if self.buffers:
                for kept, new in zip(*self.buffers):
                    kept.copy_(new)
        self.step += 1
        now = time.time()
        if now - self.said > 15 or self.args.smoke:
            self.said = now
            values = " ".join(f"{k} {v.item() if torch.is_tensor(v) else v:.4f}" for k, v in shown.items())
            say(f"{self.name}: step {self.step}, {now - self.started:.0f} s, loss {loss.item():.4f} {values}")
        if now - self.saved > 60:
            self.save()

    def save(self):
        self.saved = time.time()
        path = self.args.out / f"{self.name}.pt"
        state = {key: value.detach().float().cpu() for key, value in self.average.state_dict().items()}
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)

    def finish(self, **figures):
        self.save()
        figures = dict(steps=self.step, seconds=round(time.time() - self.started), **figures)
        figures["parameters"] = sum(p.numel() for p in self.average.parameters())
        (self.args.out / f"{self.name}.json").write_text(json.dumps(figures, indent=1))
        say(f"{self.name}: {figures}")


def resume(args, name, net):
    """The weights of an earlier call, if there are any."""
    path = (args.resume or Path("/nowhere")) / f"{name}.pt"
    if path.exists():
        net.load_state_dict(torch.load(path, map_location="cpu"), strict=True)
        say(f"{name}: goes on from {path}")
    return net.to(args.device)


def autocast(args):
    return torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda")


def grid(pictures, path, columns):
    """Saves pictures [n, 3, size, size] from -1 to 1 side by side."""
    from PIL import Image

    rows = math.ceil(len(pictures) / columns)
    size = pictures.shape[-1]
    sheet = numpy.full((rows * size, columns * size, 3), 255, numpy.uint8)
    values = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    for i, value in enumerate(values):
        row, column = divmod(i, columns)
        sheet[row * size : (row + 1) * size, column * size : (column + 1) * size] = value
    Image.fromarray(sheet).save(path)
