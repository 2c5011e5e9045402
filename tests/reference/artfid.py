#!/usr/bin/env python3
"""Golden values of art-Inception, LPIPS, FID and ArtFID, from art-fid 1.1 and lpips 0.1.4 (scipy below 1.18).

    python3 tests/reference/artfid.py                  writes tests/golden/artfid/
    python3 tests/reference/artfid.py --speed DIR      instead writes what the speed is measured on: weights of the
                                                       published sizes, 64 pairs and 64 style pictures of 224×224

The networks are built by art-fid's and lpips' own code. Two art-Inceptions are narrow (every channel count of the
published network divided), one of them stored whole; the other and the published widths have weights that a formula
gives (`formula`), so that the test makes the same 87 MB again instead of storing them. art-fid needs scikit-learn.
"""
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from art_fid import art_fid, inception
from lpips import LPIPS, pretrained_networks
from PIL import Image
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).parent.parent / "golden" / "artfid"
torch.set_num_threads(1)


# ---- weights ----


def formula(name, shape, low, high):
    """Uniform numbers from splitmix64 of (FNV-1a of the name + index): the test computes the same ones."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)).astype(np.float64) / 2.0**24
    return torch.from_numpy((low + (high - low) * unit).astype(np.float32).reshape(shape))


def fill(net):
    """Weights that keep the size of activations, so that every layer matters in the result."""
    state = {}
    for name, tensor in net.state_dict().items():
        shape = tuple(tensor.shape)
        if tensor.ndim > 1:
            bound = math.sqrt(6.0 / math.prod(shape[1:]))
            state[name] = formula(name, shape, -bound, bound)
        elif name.endswith("running_var"):
            state[name] = formula(name, shape, 0.5, 1.5)
        elif name.endswith("bn.weight"):
            state[name] = formula(name, shape, 0.9, 1.4)
        elif tensor.is_floating_point():
            state[name] = formula(name, shape, -0.1, 0.1)
        else:
            state[name] = tensor
    net.load_state_dict(state)
    return net.eval()


class Narrow:
    """While it is entered, art-fid's Inception is built with every channel count divided."""

    def __init__(self, divisor):
        self.divisor = divisor

    def __enter__(self):
        self.conv, self.linear = inception.BasicConv2d.__init__, nn.Linear.__init__
        divided = lambda n: n if n == 3 else max(1, n // self.divisor)
        conv, linear = self.conv, self.linear

        def narrow_conv(self, in_channels, out_channels, **kwargs):
            # Concatenations are sums of divided widths, which is the divided sum: the divisor divides all widths.
            conv(self, divided(in_channels), divided(out_channels), **kwargs)

        def narrow_linear(self, inputs, outputs, **kwargs):
            linear(self, divided(inputs), outputs, **kwargs)

        inception.BasicConv2d.__init__ = narrow_conv
        nn.Linear.__init__ = narrow_linear

    def __exit__(self, *_):
        inception.BasicConv2d.__init__, nn.Linear.__init__ = self.conv, self.linear


def art_inception(divisor):
    with Narrow(divisor):
        net = inception.Inception3(num_classes1=3, num_classes2=2, init_weights=False)
    return fill(net)


def stored_inception():
    """Narrow; louder than the formula makes it, so that FID is not small; convolutions rounded to half precision."""
    net = art_inception(16)
    state = net.state_dict()
    for name, tensor in state.items():
        state[name] = tensor.half().float() if tensor.ndim > 1 else tensor * 1.1 if name.endswith("bn.weight") else tensor
    net.load_state_dict(state)
    return net


def alex_trunk(widths):
    """torchvision's AlexNet convolutions at these widths, as lpips slices them."""
    import torchvision

    full = torchvision.models.AlexNet()
    if widths != [64, 192, 384, 256, 256]:
        inputs = 3
        for place, width in zip([0, 3, 6, 8, 10], widths):
            old = full.features[place]
            full.features[place] = nn.Conv2d(inputs, width, old.kernel_size, old.stride, old.padding)
            inputs = width
        full.classifier = nn.Identity()
    return fill(full)


def lpips_net(widths, heads):
    trunk = alex_trunk(widths)
    original = pretrained_networks.tv.alexnet
    pretrained_networks.tv.alexnet = lambda pretrained: trunk
    try:
        real = widths == [64, 192, 384, 256, 256]
        net = LPIPS(net="alex", pretrained=real, verbose=False)
    finally:
        pretrained_networks.tv.alexnet = original
    if not real:
        for tap, (width, lin) in enumerate(zip(widths, net.lins)):
            lin.model[1] = nn.Conv2d(width, 1, 1, bias=False)
            lin.model[1].weight.data = formula(f"lin{tap}.{heads}", (1, width, 1, 1), 0.0, 0.5)
    return net.eval(), trunk


# ---- pictures ----


def picture(seed, width, height):
    """Smooth shapes and a little noise. Pictures differ in colour, scale and contrast."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    channels = []
    for _ in range(3):
        fx, fy, phase = rng.uniform(0.01, 0.25), rng.uniform(0.01, 0.25), rng.uniform(0, 6.28)
        channels.append(128 + rng.uniform(20, 100) * np.sin(fx * x + fy * y + phase) + rng.uniform(-40, 40))
    noisy = np.stack(channels, -1) + rng.normal(0, 6, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def formula_pictures(name, count, width, height):
    """[count, height, width, 3]: noise from the formula, which the test makes again; a gradient gives it structure."""
    noise = formula(name, (count, height, width, 3), 0.0, 256.0).numpy()
    x = np.arange(width, dtype=np.float32)[None, None, :, None] * np.float32(255.0 / width)
    share = (np.arange(count, dtype=np.float32) + 1)[:, None, None, None] / np.float32(count + 1)
    return np.floor(noise * share + x * (1 - share)).astype(np.uint8)


def pixels(pictures):
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div(255)


# ---- golden values ----


def trunk_shapes(net):
    heads = ("fc", "AuxLogits")
    return {k: list(v.shape) for k, v in net.state_dict().items() if v.ndim > 0 and not k.startswith(heads)}


def networks(out, shapes):
    """Features and distances at several sizes, narrow and full widths."""
    for divisor in [16, 8]:
        net = stored_inception() if divisor == 16 else art_inception(divisor)
        if divisor == 16:
            # With its classifiers, which must not matter.
            state = {k: v.half() if v.ndim > 1 else v for k, v in net.state_dict().items()}
            save_file(state, OUT / "inception_16.safetensors")
        else:
            shapes[f"inception_{divisor}"] = trunk_shapes(net)
        for width, height in [(75, 100), (128, 128), (224, 224), (97, 131)]:
            with torch.no_grad():
                batch = pixels(formula_pictures(f"{width}x{height}", 3, width, height))
                out[f"features_{divisor}_{width}x{height}"] = net(batch, return_features=True)
    full = art_inception(1)
    shapes["inception_1"] = trunk_shapes(full)
    lpips, _ = lpips_net([64, 192, 384, 256, 256], "")
    with torch.no_grad():
        batch = pixels(formula_pictures("full", 4, 112, 96))
        out["features_full"] = full(batch, return_features=True)
        for width, height in [(224, 224), (75, 100), (64, 31)]:
            a, b = (pixels(formula_pictures(f"{n}{width}x{height}", 3, width, height)) for n in "ab")
            out[f"lpips_full_{width}x{height}"] = lpips(2 * a - 1, 2 * b - 1).flatten()


def distances(out):
    """FID by scipy's sqrtm: fewer pictures than features, more, unequal counts."""
    rng = np.random.default_rng(5)
    for name, n, m, d in [("few", 12, 9, 40), ("many", 90, 120, 24), ("between", 60, 10, 24), ("hundred", 100, 100, 256)]:
        scale = 1.0 / np.arange(1, d + 1)
        a = (rng.standard_normal((n, d)) * scale + 0.3).astype(np.float32)
        b = ((rng.standard_normal((m, d)) @ (np.eye(d) + 0.2 * rng.standard_normal((d, d)) / np.sqrt(d))) * scale).astype(np.float32)
        out[f"set_a_{name}"], out[f"set_b_{name}"] = torch.from_numpy(a), torch.from_numpy(b)
        stats = [(x.astype(np.float64).mean(0), np.cov(x.astype(np.float64), rowvar=False)) for x in (a, b)]
        (mu1, s1), (mu2, s2) = stats
        out[f"fid_{name}"] = torch.tensor([art_fid.compute_frechet_distance(mu1, s1, mu2, s2)], dtype=torch.float64)


def whole(out):
    """`compute_art_fid` itself on folders, both modes; its networks and its random choice are replaced from outside."""
    net = stored_inception()
    widths = [8, 12, 16, 12, 10]
    lpips, trunk = lpips_net(widths, "small")
    state = {k: v for k, v in trunk.state_dict().items() if k.startswith("features")}
    save_file(state, OUT / "alexnet.safetensors")
    heads = {f"lin{i}.model.1.weight": lin.model[1].weight.data for i, lin in enumerate(lpips.lins)}
    save_file(heads, OUT / "alex.safetensors")
    for kind, first in [("content", 100), ("stylized", 200), ("style", 300)]:
        (OUT / kind).mkdir(exist_ok=True)
        for i in range(10):
            made = picture(first + i, 80, 88)
            if kind == "stylized":
                made = (0.5 * made + 0.5 * picture(100 + i, 80, 88)).astype(np.uint8)
            Image.fromarray(made // 8 * 8).save(OUT / kind / f"{'p' if kind != 'style' else 's'}{i:02}.png", optimize=True)
    art_fid.get_activations = activations_of(net)
    art_fid.utils.download = lambda url: OUT / "inception_16.safetensors"
    art_fid.torch.load = lambda *_, **__: {}
    art_fid.inception.Inception3 = lambda: net
    art_fid.image_metrics.LPIPS = lambda: Scaled(lpips)
    args = [str(OUT / "stylized"), str(OUT / "style"), str(OUT / "content"), 4, "cpu"]
    for mode in ["art_fid", "art_fid_inf"]:
        # compute_art_fid hands num_workers on as the number of points.
        out[mode] = torch.tensor([art_fid.compute_art_fid(*args, mode=mode, num_workers=2)], dtype=torch.float64)
    fid = art_fid.compute_fid(args[0], args[1], 4, "cpu", num_workers=0)
    out["fid"] = torch.tensor([fid], dtype=torch.float64)
    out["lpips"] = torch.tensor([float(art_fid.compute_content_distance(args[0], args[2], 4, "lpips", "cpu", 0))])


class Scaled(nn.Module):
    def __init__(self, dist):
        super().__init__()
        self.dist = dist

    def forward(self, x, y):
        return self.dist(2 * x - 1, 2 * y - 1)


def activations_of(net):
    """art-fid's function writes into an array of 2048 columns; here the network is narrower."""

    def activations(files, model, batch_size=50, device="cpu", num_workers=1):
        batch = pixels(np.stack([np.asarray(Image.open(f).convert("RGB")) for f in sorted(files)]))
        with torch.no_grad():
            return net(batch, return_features=True).double().numpy()

    return activations


def extrapolation(out):
    """`compute_fid_infinity` on given features; its shuffles are recorded, its smallest sample is smaller."""
    rng = np.random.default_rng(11)
    n, d, points, first = 60, 12, 6, 20
    style = rng.standard_normal((n, d)).astype(np.float32)
    stylized = (rng.standard_normal((n, d)) * 1.4 + 0.5).astype(np.float32)
    sets = iter([stylized.astype(np.float64), style.astype(np.float64)])
    art_fid.get_activations = lambda *_, **__: next(sets)
    art_fid.get_image_paths = lambda *_, **__: [""] * n
    art_fid.utils.download = lambda url: ""
    art_fid.torch.load = lambda *_, **__: {}
    art_fid.inception.Inception3 = lambda: nn.Identity()
    orders, shuffle, linspace = [], np.random.shuffle, np.linspace

    def recorded(indices):
        shuffle(indices)
        orders.append(indices.copy())

    np.random.seed(0)
    np.random.shuffle = recorded
    np.linspace = lambda start, stop, num: linspace(first, stop, num)
    nn.Module.load_state_dict = lambda *_, **__: None
    try:
        out["extrapolated"] = torch.tensor([art_fid.compute_fid_infinity("", "", 1, "cpu", points)], dtype=torch.float64)
    finally:
        np.random.shuffle, np.linspace = shuffle, linspace
    out["extrapolated_style"], out["extrapolated_stylized"] = torch.from_numpy(style), torch.from_numpy(stylized)
    out["extrapolated_orders"] = torch.from_numpy(np.stack(orders))


def write_speed_inputs(folder):
    folder.mkdir(parents=True, exist_ok=True)
    trunk = {k: v for k, v in art_inception(1).state_dict().items() if not k.startswith(("fc", "AuxLogits"))}
    for name in trunk:
        if name.startswith("Mixed_7c") and name.endswith(("bn.weight", "bn.bias")):
            trunk[name] *= 0.01  # art-fid gives up on larger features of few pictures ("Imaginary component")
    torch.save(trunk, folder / "art_inception.pth")
    torch.save(alex_trunk([64, 192, 384, 256, 256]).state_dict(), folder / "alexnet-owt-7be5be79.pth")
    for kind, first in [("content", 1000), ("stylized", 2000), ("style", 3000)]:
        (folder / kind).mkdir(exist_ok=True)
        for i in range(64):
            made = picture(first + i, 224, 224)
            if kind == "stylized":
                made = (0.5 * made + 0.5 * picture(1000 + i, 224, 224)).astype(np.uint8)
            Image.fromarray(made).save(folder / kind / f"{i:03}.png")


def main():
    if sys.argv[1:2] == ["--speed"]:
        return write_speed_inputs(Path(sys.argv[2]))
    OUT.mkdir(parents=True, exist_ok=True)
    out, shapes = {}, {}
    networks(out, shapes)
    distances(out)
    whole(out)
    extrapolation(out)
    save_file({k: v.contiguous() for k, v in out.items()}, OUT / "values.safetensors")
    (OUT / "shapes.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
