"""BLIP-base at its published size with random weights, here and in transformers, in turns.

    python tests/reference/blip_speed.py PROGRAM [BATCH] [ROUNDS] [THREADS]

A round is one batch of captions of 20 new tokens by each side, float32 on the CPU. Printed are images per second by the
wall clock (best and median round) and the processor time of a batch (least and median), which other work on the machine
disturbs less.
"""

import json
import os
import subprocess
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from transformers import BlipConfig, BlipForConditionalGeneration

TOKENS = 20


def median(values):
    # The script beside this one that is called statistics hides Python's own.
    return sorted(values)[len(values) // 2]


def peer(threads):
    torch.set_num_threads(threads)
    text = dict(vocab_size=30524, num_attention_heads=12, bos_token_id=30522, eos_token_id=2, pad_token_id=0, sep_token_id=102)
    config = BlipConfig(text_config=text, vision_config=dict(image_size=384, patch_size=16))
    torch.manual_seed(0)
    return BlipForConditionalGeneration(config).eval()


@torch.inference_mode()
def peer_round(model, batch):
    pixels = torch.randn(batch, 3, 384, 384)
    start, cpu = time.perf_counter(), time.process_time()
    made = model.generate(pixel_values=pixels, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    assert made.shape[1] >= TOKENS
    return time.perf_counter() - start, time.process_time() - cpu


def own_round(program, batch, threads):
    command = [program, "--device", "cpu", "--threads", str(threads), "bench", "blip-base", "--random-weights", "--repeat", "1"]
    command += ["--batch-size", str(batch), "--max-new-tokens", str(TOKENS), "--format", "json"]
    figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return batch / figures["images_per_second"], figures["processor_seconds"]


def main():
    program = sys.argv[1]
    batch, rounds, threads = (int(value) for value in (sys.argv[2:] + ["4", "5", "2"][len(sys.argv) - 2 :])[:3])
    model = peer(threads)
    peer_round(model, batch)  # warm-up; the bench has its own
    own, other = [], []
    for number in range(rounds):
        own.append(own_round(program, batch, threads))
        other.append(peer_round(model, batch))
        print(f"round {number + 1}: here {own[-1]}, transformers {other[-1]}", file=sys.stderr, flush=True)
    for name, choose in [("best", min), ("median", median)]:
        (wall, cpu), (peer_wall, peer_cpu) = ([choose(side) for side in zip(*runs)] for runs in (own, other))
        print(f"{name}: here {batch / wall:.3f} img/s, {cpu:.2f} s of processor; transformers {batch / peer_wall:.3f} img/s, "
              f"{peer_cpu:.2f} s; ratio {peer_wall / wall:.2f} by the clock, {peer_cpu / cpu:.2f} by processor time")


main()
