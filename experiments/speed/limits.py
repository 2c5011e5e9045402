"""The least time that the work of each row takes on a machine, from its operations and bytes over what that very machine
reaches (`timing.ceilings`): matrix products of random bfloat16 numbers, copies within its memory.

A part of the work takes the longer of its operations and its bytes; parts that depend on each other add up. A
multiplication and an addition are two operations. Numbers have two bytes. Convolutional networks and SD3's denoiser were
counted by PyTorch (counts.py). What a limit leaves out (norms, activations, sampling, launches) makes it lower, never higher.
"""


def dense(tokens, width, layers, per_token, attended=None):
    """Operations of a transformer: 2 for each of `per_token` weights a layer and token, and 4 · tokens · attended ·
    width of attention (scores and values)."""
    return layers * (2 * tokens * per_token + 4 * tokens * (tokens if attended is None else attended) * width)


def seconds(machine, operations=0, bytes_moved=0):
    """The longer of the two."""
    return max(operations / (machine["matmul_tflops"] * 1e12), bytes_moved / (machine["copy_tbs"] * 1e12))


# Weights of a layer: 4 w² of attention's projections, 2 · 4 w² of the feed-forward.
CLIP = {"l": (768, 12, 123_650_304), "g": (1280, 32, 694_659_840)}
# 4 · 4096² of attention, gated feed-forward 3 · 4096 · 10240.
T5 = (4096, 24, 4 * 4096**2 + 3 * 4096 * 10240, 4_762_310_656)


def text_encoders(machine, texts, names, t5=False):
    total = 0
    for width, layers, parameters in (CLIP[name] for name in names):
        total += seconds(machine, texts * dense(77, width, layers, 12 * width**2), 2 * parameters)
    if t5:
        width, layers, weights, parameters = T5
        total += seconds(machine, texts * dense(256, width, layers, weights), 2 * parameters)
    return total


def sd3(machine, counts, batch):
    """Stable Diffusion 3: 28 steps · 2 (guidance) · the denoiser of 4,096 + 333 tokens, the three text encoders for each
    text and the empty one, the decoder; per picture."""
    steps = 28 * seconds(machine, 2 * batch * counts["sd3_transformer"], 2 * 2_084_951_104)
    return (steps + sd3_around(machine, counts, batch)) / batch


def sd3_around(machine, counts, batch):
    texts = text_encoders(machine, batch + 1, "lg", t5=True)
    return texts + seconds(machine, batch * counts["sd3_decode"], 2 * 83_819_683)


def sd3_with_attention(machine, counts, batch):
    """The same with the denoiser's attention (24 layers · 4 · 4,429² · 1,536) at the rate of cuDNN's kernel instead."""
    attention = 28 * 2 * 24 * 4 * 4429**2 * 1536
    slower = attention / (machine["attention_tflops"] * 1e12) - attention / (machine["matmul_tflops"] * 1e12)
    return sd3(machine, counts, batch) + max(slower, 0)


def sd15(machine, counts, batch):
    """Stable Diffusion v1.5, image-to-image: 41 evaluations (50 steps × 0.8; PNDM looks at the first twice) · 2
    (guidance) · the U-Net, CLIP for each text and the empty one, encoder and decoder; per picture."""
    steps = 41 * seconds(machine, 2 * batch * counts["unet"], 2 * 859_520_964)
    pictures = seconds(machine, batch * (counts["sd15_encode"] + counts["sd15_decode"]), 2 * 83_653_863)
    return (steps + text_encoders(machine, batch + 1, "l") + pictures) / batch


# Phi-4: 32 layers of width 3,072 with 24 heads and 8 of keys and values, of 128; gated feed-forward of 8,192; 200,064 words.
PHI4_LAYER = 3072 * (3072 + 2 * 1024) + 3072**2 + 3 * 3072 * 8192
PHI4_HEAD = 3072 * 200_064
PHI4_PROMPT = 1065 + 24


def phi4_decode(machine, _, batch):
    """Phi-4's decoding: each token reads all weights of the language model (LoRA merged) once for the batch, and the keys
    and values (32 layers · 2 · 1,024 a token) of prompt and half the answer of each text; tokens per second."""
    cache = batch * (PHI4_PROMPT + 32) * 32 * 2 * 1024
    weights = 32 * PHI4_LAYER + PHI4_HEAD
    return batch / seconds(machine, 2 * batch * weights, 2 * (weights + cache))


def phi4_prefill(machine, _, batch):
    """Phi-4's prefill: five crops through 26 SigLIP layers (1,024 patches, width 1,152, feed-forward 4,304; the last
    layer is not read), then 1,089 tokens through the language model, and the words of the last one."""
    vision = dense(1024, 1152, 26, 4 * 1152**2 + 2 * 1152 * 4304)
    text = dense(PHI4_PROMPT, 3072, 32, PHI4_LAYER, attended=PHI4_PROMPT / 2)
    return seconds(machine, batch * (5 * vision + text + 2 * PHI4_HEAD), 2 * (32 * PHI4_LAYER + PHI4_HEAD))


def blip(machine, batch, width, layers):
    tokens, words = 577, 30_524 * 768
    vision = dense(tokens, width, layers, 12 * width**2)
    across = 12 * 2 * tokens * 2 * width * 768  # keys and values of the picture, for 12 text layers
    read = seconds(machine, batch * (vision + across), 2 * (12 * layers * width**2 + 12 * 2 * width * 768))
    # A text layer: self-attention 4 w², across to the picture 2 w², feed-forward 8 w²; its head 768² and the words.
    weights = 12 * 14 * 768**2 + 768**2 + words
    cache = batch * 12 * 2 * 768 * (tokens + 10)
    step = seconds(machine, 2 * batch * weights, 2 * (weights + cache))
    return batch / (read + 20 * step)


def blip_base(machine, _, batch):
    """BLIP-base: 577 patches through 12 layers of width 768, their keys and values for 12 text layers, then 20 steps
    that read the text decoder's weights once for the batch and each picture's keys and values; pictures per second."""
    return blip(machine, batch, 768, 12)


def blip_large(machine, _, batch):
    """BLIP-large: the same with 24 layers of width 1,024 for the picture."""
    return blip(machine, batch, 1024, 24)


def sd3_start(machine, counts, folder_bytes=15_500_000_000):
    """A whole process: the folder's bytes over the rate of copies from page-locked main memory, then one picture."""
    return folder_bytes / (machine["upload_gbs"] * 1e9) + sd3(machine, counts, 1)


def artfid(machine, counts, pictures=5000):
    """ArtFID: 2 · 5,000 pictures of 224² through art-Inception and 2 · 5,000 through AlexNet, in float32 without
    TensorFloat-32, at the rate of float32 matrix products."""
    operations = 2 * pictures * (counts["art_inception"] + counts["alexnet"])
    return operations / (machine["float32_tflops"] * 1e12)


LIMITS = {
    "sd3-1": sd3, "sd3-4": sd3, "sd15-1": sd15, "sd15-8": sd15, "phi4-1": phi4_decode, "phi4-6": phi4_decode,
    "phi4-prefill": phi4_prefill, "blip-base-1": blip_base, "blip-base-64": blip_base, "blip-large-64": blip_large,
    "sd3-start": sd3_start, "artfid": artfid,
}


def limit(row, machine, counts):
    """The limit of a row, in the unit of its figure: the least seconds, or the most per second."""
    return LIMITS[row.name](machine, counts, *row.case)
