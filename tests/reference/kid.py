#!/usr/bin/env python3
"""Golden values of KID, from torchmetrics 1.9 (its kernel and its unbiased estimate) on the features of artfid.py.

    python3 tests/reference/kid.py                     writes tests/golden/kid/values.json

torchmetrics takes sets of one size; where the sizes differ the sums over its kernel are divided by each set's own number
of pairs, as the unbiased estimate of Gretton et al. (2012, equation 3) has it. Needs what artfid.py needs.
"""
import json
from pathlib import Path

import numpy as np
import torch
from artfid import OUT as FEATURES
from artfid import pixels, stored_inception
from PIL import Image
from safetensors.torch import load_file
from torchmetrics.image.kid import poly_kernel, poly_mmd

OUT = Path(__file__).parent.parent / "golden" / "kid"


def unbiased(a, b):
    """Sets of any two sizes."""
    inside = lambda k: (k.sum() - k.diag().sum()) / (len(k) * (len(k) - 1))
    return inside(poly_kernel(a, a)) + inside(poly_kernel(b, b)) - 2 * poly_kernel(a, b).mean()


def of_folder(net, folder):
    files = sorted((FEATURES / folder).iterdir())
    pictures = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    with torch.no_grad():
        return net(pixels(pictures), return_features=True).double()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    sets, values = load_file(FEATURES / "values.safetensors"), {}
    for name in ["few", "many", "between", "hundred"]:
        a, b = sets[f"set_a_{name}"].double(), sets[f"set_b_{name}"].double()
        values[name] = unbiased(a, b).item()
        least = min(len(a), len(b))
        values[f"{name}_equal"] = poly_mmd(a[:least], b[:least]).item()
        assert abs(unbiased(a[:least], b[:least]).item() - values[f"{name}_equal"]) < 1e-12
    net = stored_inception()
    values["folders"] = poly_mmd(of_folder(net, "stylized"), of_folder(net, "style")).item()
    halves = of_folder(net, "content")
    values["halves"] = poly_mmd(halves[0::2], halves[1::2]).item()
    (OUT / "values.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
