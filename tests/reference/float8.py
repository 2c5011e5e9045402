"""Makes tests/golden/float8: rows quantised to float8 and their products, as torch computes them.

Run from the repository's root with torch 2.11 and safetensors installed:
    python tests/reference/float8.py

torch has products with a scale for each row on CUDA alone; on the CPU its `_scaled_mm` multiplies with one scale, here 1,
and the rows' scales come after it, which is what they mean.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).parent.parent / "golden" / "float8"


def quantised(rows):
    """Values in float8, and a scale for each row."""
    largest = rows.float().abs().amax(-1, keepdim=True).clamp(min=1e-12)
    return (rows.float() * (torch.full_like(largest, 448) / largest)).to(torch.float8_e4m3fn), largest / 448


def main():
    torch.manual_seed(8)
    x = torch.randn(7, 64).bfloat16()
    x[1] *= 1e4
    x[2] *= 1e-6
    x[3] = 0
    x[4, 5] = 300  # an outlier, beside which the others keep few bits
    weight = (torch.randn(48, 64) * 0.05).bfloat16()
    bias = torch.randn(48).bfloat16()
    (values, scales), (w_values, w_scales) = quantised(x), quantised(weight)
    gelu_values, gelu_scales = quantised(torch.nn.functional.gelu(x, approximate="tanh"))
    one = torch.ones(1)
    product = torch._scaled_mm(values, w_values.t(), one, one, out_dtype=torch.float32)
    product = product * scales * w_scales.t() + bias.float()
    tensors = {
        "x": x, "weight": weight, "bias": bias, "values": values.view(torch.uint8), "scales": scales,
        "weight_values": w_values.view(torch.uint8), "weight_scales": w_scales,
        "gelu_values": gelu_values.view(torch.uint8), "gelu_scales": gelu_scales,
        "product": product, "bfloat16": torch.nn.functional.linear(x, weight, bias),
    }  # fmt: skip
    OUT.mkdir(exist_ok=True)
    save_file(tensors, OUT / "rows.safetensors")


if __name__ == "__main__":
    main()
