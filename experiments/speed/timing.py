"""How the peers are timed and built: medians after a warm-up, with the device idle at both ends."""
import gc
import statistics
import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(work):
    """How long `work` and the device are busy with it."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def median_seconds(work, repeat=3, warm=1):
    for _ in range(warm):
        work()
    return statistics.median(seconds(work) for _ in range(repeat))


def peak_memory():
    """The most bytes that tensors held on the GPU since `reset`, or that the process held on a CPU."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset():
    """Starts a new measurement of the peak, without what nobody holds any more."""
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def number_type(on_gpu):
    """The number type of a peer: the model's own on a GPU, float32 on a CPU."""
    return on_gpu if DEVICE == "cuda" else torch.float32


def build(new, dtype, device=DEVICE):
    """A model with random weights, made on the device in its number type."""
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = new()
    finally:
        torch.set_default_dtype(torch.float32)
    return model.eval().requires_grad_(False)


def ceilings(tiny=False):
    """What this very GPU reaches: matrix products of random bfloat16 and float32 numbers and cuDNN's attention in
    TFLOP/s, a copy within its memory in TB/s (bytes read and written), a copy from page-locked main memory in GB/s."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    side, size, tokens = (512, 2**22, 64) if tiny else (8192, 2**31, 4429)
    dtype = number_type(torch.bfloat16)
    a, b = (torch.randn(side, side, device=DEVICE, dtype=dtype) for _ in "ab")
    out = {"matmul_tflops": 2 * side**3 / median_seconds(lambda: a @ b, 20, 3) / 1e12}
    a, b = a.float(), b.float()
    torch.backends.cuda.matmul.allow_tf32 = False
    out["float32_tflops"] = 2 * side**3 / median_seconds(lambda: a @ b, 5) / 1e12
    torch.backends.cuda.matmul.allow_tf32 = True
    source, target = (torch.empty(size, device=DEVICE, dtype=torch.uint8) for _ in "ab")
    out["copy_tbs"] = 2 * size / median_seconds(lambda: target.copy_(source), 20, 3) / 1e12
    locked = torch.empty(size // 2, dtype=torch.uint8, pin_memory=DEVICE == "cuda")
    out["upload_gbs"] = size / 2 / median_seconds(lambda: target[: size // 2].copy_(locked), 5) / 1e9
    q = torch.randn(2, 24, tokens, 64, device=DEVICE, dtype=dtype)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION if DEVICE == "cuda" else SDPBackend.MATH):
        attention = median_seconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q), 10, 2)
    out["attention_tflops"] = 4 * 2 * 24 * tokens**2 * 64 / attention / 1e12
    return out
