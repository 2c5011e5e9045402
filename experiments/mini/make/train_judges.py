"""Trains the metric nets to name style and attributes: python train_judges.py art-inception|alexnet --data … --out …"""

import random

import torch
from torch.nn import functional as F

import nets
import texts
from learning import Training, World, attribute_accuracy, attribute_loss, autocast, options, resume, worsened

# LPIPS' own normalisation of pictures from -1 to 1.
SHIFT, SCALE = [-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]


def main():
    args = options()
    world = World(args)
    inception = args.job == "art-inception"
    if inception:
        import inception_reference as reference  # art_fid.inception, carried beside

        net = nets.art_inception(reference)
    else:
        net = nets.AlexNet()
    shift, scale = (torch.tensor(v, device=args.device).view(1, 3, 1, 1) for v in (SHIFT, SCALE))

    def judge(net, x):
        """x from -1 to 1 → logits of style, of attributes."""
        if inception:
            outputs = net((x + 1) / 2)
            return outputs[0], outputs[1]
        return net((x - shift) / scale).split([len(texts.STYLES), net.head.out_features - len(texts.STYLES)], 1)

    net = resume(args, args.job, net)
    training = Training(args, args.job, net, 2e-3, ema=0.995)
    batch = args.batch or (8 if args.smoke else 128)
    side = 224
    net.train()
    while training.running():
        style, person = world.draw(batch)
        x = world.unit(style, person)
        x = worsened(x) if random.random() < 0.7 else x
        with autocast(args):
            names, values = judge(net, F.interpolate(x, side, mode="bicubic").clamp(-1, 1))
        first = F.cross_entropy(names.float(), style)
        second = attribute_loss(values, world.labels[style, person])
        training.update(first + second, style=first)
    net, shares = training.average, {}
    net.eval()
    for s, name in enumerate(texts.STYLES):
        held = slice(world.count, world.count + 100)
        x = world.pictures[s, held].float() / 127.5 - 1
        with torch.no_grad():
            names, values = judge(net, F.interpolate(x, side, mode="bicubic").clamp(-1, 1))
        shares[name] = dict(style=(names.argmax(1) == s).float().mean().item())
        shares[name] |= attribute_accuracy(values, world.labels[s, held])
    training.finish(accuracy=shares)


if __name__ == "__main__":
    main()
