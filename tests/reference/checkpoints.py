"""Makes tests/golden/checkpoints: tiny checkpoints in every container, and what they hold.

Run from the repository's root with torch and safetensors installed:
    python tests/reference/checkpoints.py
"""

import collections
import json
import os
import pickle
import struct
from pathlib import Path

import torch
from safetensors.torch import save, save_file

OUT = Path(__file__).parent.parent / "golden" / "checkpoints"


def numbers(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def every_kind():
    """Each number type, odd shapes, and views that share one storage."""
    base = numbers(7, 11)
    tensors = {
        "float32": numbers(3, 5),
        "float64": numbers(2, 3).double(),
        "float16": numbers(4, 3).half(),
        "bfloat16": numbers(5).bfloat16(),
        "int64": torch.arange(-3, 4),
        "int32": torch.arange(6, dtype=torch.int32).reshape(2, 3),
        "int16": torch.tensor([-5, 300], dtype=torch.int16),
        "int8": torch.tensor([-128, 127], dtype=torch.int8),
        "uint8": torch.arange(250, 256, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "view.transposed": base.t(),
        "view.row": base[3],
        "view.column": base[:, 4],
        "view.block": base[2:5, 3:9:2],
        "view.expanded": base[1, 2].expand(2, 3),
    }
    return tensors


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4, 2, bias=False)


def put(name, tensors):
    """The expected values, dense."""
    save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, OUT / f"{name}.expected")


def containers(name, value, tensors):
    torch.save(value, OUT / f"{name}.zip.pt")
    torch.save(value, OUT / f"{name}.legacy.pt", _use_new_zipfile_serialization=False)
    put(name, tensors)


def folders():
    """Model folders: single, sharded, fp16 variants, pickles."""
    tensors = {f"layer.{i}.weight": numbers(2, i + 1) for i in range(4)}
    halves = [dict(list(tensors.items())[:2]), dict(list(tensors.items())[2:])]
    put("folder", tensors)

    def sharded(folder, stem, extension, index, write):
        (OUT / folder).mkdir(exist_ok=True)
        weight_map = {}
        for i, half in enumerate(halves):
            file = f"{stem}-{i + 1:05}-of-00002.{extension}"
            write(half, OUT / folder / file)
            weight_map |= {key: file for key in half}
        (OUT / folder / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))

    def single(folder, file, write):
        (OUT / folder).mkdir(exist_ok=True)
        write(tensors, OUT / folder / file)

    single("folder_safetensors", "model.safetensors", save_file)
    single("folder_fp16", "diffusion_pytorch_model.fp16.safetensors", save_file)
    single("folder_bin", "pytorch_model.bin", torch.save)
    single("folder_diffusers_bin", "diffusion_pytorch_model.bin", torch.save)
    sharded("folder_sharded", "model", "safetensors", "model.safetensors.index.json", save_file)
    sharded("folder_sharded_fp16", "model.fp16", "safetensors", "model.safetensors.index.fp16.json", save_file)
    sharded("folder_sharded_bin", "pytorch_model", "bin", "pytorch_model.bin.index.json", torch.save)


class Hostile:
    def __reduce__(self):
        return os.system, ("echo this must never run > hostile-was-here",)


def hostile():
    torch.save({"weight": numbers(2), "harmless": Hostile()}, OUT / "hostile.zip.pt")
    torch.save({"weight": numbers(2), "harmless": Hostile()}, OUT / "hostile.legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(Net(), OUT / "whole_module.pt")
    (OUT / "no_torch.pkl").write_bytes(pickle.dumps([1, 2, 3], protocol=2))
    # A tensor that reaches beyond its storage.
    storage = torch.zeros(4)
    outside = collections.OrderedDict(weight=storage)
    torch.save(outside, OUT / "whole.pt", _use_new_zipfile_serialization=False)
    data = (OUT / "whole.pt").read_bytes()
    (OUT / "whole.pt").unlink()
    # ... (4,) as shape is BININT1 4 TUPLE1; make it (5,).
    assert data.count(b"K\x04\x85") == 1
    (OUT / "outside.legacy.pt").write_bytes(data.replace(b"K\x04\x85", b"K\x05\x85"))


def odd_headers():
    """safetensors whose data are not aligned to their number type, as the format allows."""
    tensors = {"a": numbers(3, 3), "b": numbers(2).half(), "c": numbers(3).double()}
    plain = save(tensors)
    length = struct.unpack("<Q", plain[:8])[0]
    header = plain[8 : 8 + length].rstrip() + b" "
    header += b" " * ((3 - len(header)) % 8)
    (OUT / "unaligned.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + plain[8 + length :])
    put("unaligned", tensors)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    GENERATOR = torch.Generator().manual_seed(0)
    OUT.mkdir(parents=True, exist_ok=True)
    kinds = every_kind()
    containers("kinds", collections.OrderedDict(kinds), kinds)
    net = Net()
    containers("state_dict", net.state_dict(), net.state_dict())
    trained = {"state_dict": net.state_dict(), "epoch": 3, "lr": 0.1, "optimizer": {"momentum": numbers(2)}, "tags": {1, 2}}
    containers("trained", trained, net.state_dict())
    parameters = {f"net.{key}": value for key, value in net.named_parameters()}
    nested = {"net": dict(net.named_parameters()), "steps": [numbers(2), numbers(3)]}
    containers("nested", nested, parameters | {f"steps.{i}": value for i, value in enumerate(nested["steps"])})
    torch.save(net.state_dict(), OUT / "state_dict.protocol4.pt", pickle_protocol=4)
    folders()
    hostile()
    odd_headers()
