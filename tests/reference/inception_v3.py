#!/usr/bin/env python3
"""Golden values of FID's Inception v3, from pytorch-fid 0.3.0, and of precision and recall, from prdc 0.2.

    python3 tests/reference/inception_v3.py            writes tests/golden/inception_v3/values.safetensors

The network is built by pytorch-fid's own code with weights that artfid.py's formula gives; its layers have the names and
shapes of art-Inception's, so that the test makes them from the same list. Needs what artfid.py needs.
"""
from pathlib import Path

import numpy as np
import torch
import torchvision
from artfid import OUT as FEATURES
from artfid import fill, formula_pictures, pixels
from PIL import Image
from prdc import compute_prdc
from pytorch_fid import fid_score, inception
from safetensors.torch import load_file, save_file
from torch import nn

OUT = Path(__file__).parent.parent / "golden" / "inception_v3"
torch.set_num_threads(1)


def network(divisor):
    """pytorch-fid's network with every channel count divided, and its own weights in place of the published ones."""
    conv, linear = torchvision.models.inception.BasicConv2d.__init__, nn.Linear.__init__
    divided = lambda n: n if n == 3 else n // divisor

    def narrow_conv(self, in_channels, out_channels, **kwargs):
        conv(self, divided(in_channels), divided(out_channels), **kwargs)

    def narrow_linear(self, inputs, outputs, **kwargs):
        linear(self, divided(inputs), outputs, **kwargs)

    torchvision.models.inception.BasicConv2d.__init__ = narrow_conv
    nn.Linear.__init__ = narrow_linear
    load, keep = inception.load_state_dict_from_url, nn.Module.load_state_dict
    inception.load_state_dict_from_url = lambda *_, **__: {}
    nn.Module.load_state_dict = lambda self, state, **kwargs: keep(self, state, **kwargs) if state else None
    whole = []
    build = inception.fid_inception_v3
    inception.fid_inception_v3 = lambda: whole.append(fill(build())) or whole[0]
    try:
        return inception.InceptionV3([3]).eval()
    finally:
        torchvision.models.inception.BasicConv2d.__init__, nn.Linear.__init__ = conv, linear
        inception.load_state_dict_from_url, nn.Module.load_state_dict = load, keep
        inception.fid_inception_v3 = build


def features(net, pictures):
    with torch.no_grad():
        return net(pixels(pictures))[0].flatten(1)


def of_folder(net, folder):
    files = sorted((FEATURES / folder).iterdir())
    return features(net, np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    out, number = {}, lambda value: torch.tensor([value], dtype=torch.float64)
    net = network(8)
    for width, height in [(64, 40), (224, 224), (299, 299), (400, 310)]:
        out[f"features_{width}x{height}"] = features(net, formula_pictures(f"{width}x{height}", 3, width, height))
    out["features_full"] = features(network(1), formula_pictures("full", 2, 112, 96))
    stylized, style = (of_folder(net, folder).double().numpy() for folder in ["stylized", "style"])
    moments = lambda rows: (rows.mean(0), np.cov(rows, rowvar=False))
    out["fid"] = number(fid_score.calculate_frechet_distance(*moments(stylized), *moments(style)))
    sets = load_file(FEATURES / "values.safetensors")
    for name in ["few", "many", "between", "hundred"]:
        a, b = sets[f"set_a_{name}"].double().numpy(), sets[f"set_b_{name}"].double().numpy()
        for key, (real, fake) in {name: (b, a), f"{name}_turned": (a, b), f"{name}_halves": (a[::2], a[1::2])}.items():
            found = compute_prdc(real_features=real, fake_features=fake, nearest_k=3)
            out[f"precision_{key}"], out[f"recall_{key}"] = number(found["precision"]), number(found["recall"])
    save_file({name: value.contiguous() for name, value in out.items()}, OUT / "values.safetensors")
    print({name: value.item() for name, value in out.items() if value.numel() == 1})


if __name__ == "__main__":
    main()
