"""Makes the part of tests/golden/checkpoints that is about views of storages: how torch itself reads them.

Run from the repository's root with torch and safetensors installed:
    python tests/reference/checkpoint_views.py
"""

import io
import random
import sys
import types
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).parent.parent / "golden" / "checkpoints"

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


def storage(dtype, count):
    """A storage of numbers that differ from one another as far as the type allows."""
    numbers = torch.randperm(count, generator=GENERATOR)
    return (numbers % 2).bool() if dtype == torch.bool else (numbers % 100).to(dtype)


def strided(base):
    """Any view that lies inside the storage: gaps, overlaps, stride 0, any order of the axes, none or empty axes."""
    while True:
        shape = [random.choice([0, 1, 1, 2, 2, 3, 4, 5]) for _ in range(random.randint(0, 4))]
        strides = [random.choice([0, 0, 1, 2, 3, 5, 7, 12]) for _ in shape]
        last = sum((n - 1) * stride for n, stride in zip(shape, strides))
        if 0 in shape or last < len(base):
            room = len(base) if 0 in shape else len(base) - 1 - last
            return base.as_strided(shape, strides, random.randint(0, room))


def views():
    tensors = {}
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        base = storage(dtype, 60)
        square = base[:48].view(6, 8)
        tensors |= {
            f"{name}.one_expanded": base[1].clone().expand(5),
            f"{name}.element_expanded": base[1].expand(3, 4),
            f"{name}.row_expanded": square[2].expand(3, 8),
            f"{name}.column_expanded": square[:, 1:2].expand(6, 4),
            f"{name}.transposed": square.t(),
            f"{name}.steps": square[1::2, ::3],
            f"{name}.permuted": base.view(3, 4, 5).permute(2, 0, 1),
            f"{name}.channels_last": base.view(1, 3, 4, 5).contiguous(memory_format=torch.channels_last),
            f"{name}.windows": base[3:20].unfold(0, 5, 2),
            f"{name}.scalar": base[-1],
            f"{name}.end": base[60:],
            f"{name}.whole": base,
        }
        tensors |= {f"{name}.{i}": strided(base if i % 3 else storage(dtype, 7)) for i in range(16)}
    torch.save(tensors, OUT / "views.zip.pt")
    # torch writes float8 into the legacy container too, and cannot read it there.
    legacy = {key: value for key, value in tensors.items() if value.dtype.itemsize > 1 or not value.is_floating_point()}
    torch.save(legacy, OUT / "views.legacy.pt", _use_new_zipfile_serialization=False)
    # What torch reads, not what was saved.
    for saved, container in [(legacy, "legacy"), (tensors, "zip")]:
        read = torch.load(OUT / f"views.{container}.pt")
        assert all(torch.equal(read[key].double(), value.double()) for key, value in saved.items())
    dense = {key: value.clone(memory_format=torch.contiguous_format) for key, value in read.items()}
    save_file(dense, OUT / "views.expected")


def lightning():
    """A trainer's checkpoint: classes of its packages beside the weights."""

    class AttributeDict(dict):
        pass

    class ModelCheckpoint:
        pass

    weights = {"net.weight": torch.randn(2, 3, generator=GENERATOR)}
    for package in ["pytorch_lightning.callbacks", "lightning.pytorch.callbacks", "lightning_fabric.utilities.data"]:
        parts = package.split(".")
        for i in range(len(parts)):
            name = ".".join(parts[: i + 1])
            sys.modules[name] = module = types.ModuleType(name)
        for kind in [AttributeDict, ModelCheckpoint]:
            kind.__module__, kind.__qualname__ = package, kind.__name__
            setattr(module, kind.__name__, kind)
        value = {
            "state_dict": weights,
            "callbacks": {ModelCheckpoint: {"best": torch.tensor(0.5), "state": ModelCheckpoint()}},
            "hyper_parameters": AttributeDict(width=3, device=torch.device("cpu")),
        }
        torch.save(value, OUT / f"{parts[0]}.pt")
    save_file(weights, OUT / "lightning.expected")


def refused():
    torch.save({"weight": torch.zeros(2, dtype=torch.complex64)}, OUT / "complex.pt")
    # A real tensor whose numbers torch turns round when it reads them.
    torch.save({"weight": torch.tensor([1 + 2j, 3 - 4j]).conj().imag}, OUT / "negated.pt")
    # Without its code, which says where torch is installed.
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    with zipfile.ZipFile(script) as whole, zipfile.ZipFile(OUT / "torchscript.pt", "w") as kept:
        for name in whole.namelist():
            if "/code/" not in name:
                kept.writestr(zipfile.ZipInfo(name), whole.read(name))


def sums():
    """An archive without CRC-32."""
    torch.serialization.set_crc32_options(False)
    torch.save({"weight": torch.randn(3, generator=GENERATOR)}, OUT / "without_sums.pt")
    torch.serialization.set_crc32_options(True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    GENERATOR = torch.Generator().manual_seed(0)
    views()
    lightning()
    refused()
    sums()
