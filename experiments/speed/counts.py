"""Operations of the convolutional and mixed networks, counted by PyTorch on the peers' own modules without running
them (device `meta`): a multiplication and an addition are two. Dense transformers are counted by formula in limits.py."""
import json
import sys

import torch

import nets
from timing import build
from torch.utils.flop_counter import FlopCounterMode


def flops(new, run):
    model = build(new, torch.float32, "meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run(model)
    return counter.get_total_flops()


def meta(*shape):
    return torch.empty(*shape, device="meta")


def count():
    """Of one picture, text or sequence each."""
    sd3 = dict(hidden_states=meta(1, 16, 128, 128), encoder_hidden_states=meta(1, 333, 4096),
               pooled_projections=meta(1, 2048), timestep=meta(1))
    alex = lambda net: net.features(meta(1, 3, 224, 224))
    inception = lambda net: net(meta(1, 3, 224, 224), return_features=True)
    return {
        "sd3_transformer": flops(nets.sd3_transformer(), lambda net: net(**sd3)),
        "sd3_decode": flops(nets.autoencoder(16), lambda net: net.decode(meta(1, 16, 128, 128))),
        "unet": flops(nets.unet(), lambda net: net(meta(1, 4, 64, 64), meta(1), meta(1, 77, 768))),
        "sd15_encode": flops(nets.autoencoder(4), lambda net: net.encode(meta(1, 3, 512, 512))),
        "sd15_decode": flops(nets.autoencoder(4), lambda net: net.decode(meta(1, 4, 64, 64))),
        "art_inception": flops(nets.art_inception(), inception),
        "alexnet": flops(nets.alexnet(), alex),
    }


if __name__ == "__main__":
    counted = count()
    if "--json" in sys.argv:
        print(json.dumps(counted))
    else:
        for name, number in counted.items():
            print(f"{name:<16} {number / 1e9:10.2f} GFLOP")
