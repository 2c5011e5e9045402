"""Trains a picture autoencoder on all styles: python train_vae.py sd3-vae|sd15-vae --data … --out …"""

import torch

import nets
from learning import Training, World, autocast, grid, options, resume, say


def edges(x):
    """Differences between neighbouring pixels."""
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def main():
    args = options()
    world = World(args)
    net = resume(args, args.job, nets.sd3_vae() if args.job == "sd3-vae" else nets.sd15_vae())
    net = net.to(memory_format=torch.channels_last)
    training = Training(args, args.job, net, 2e-3)
    batch = args.batch or (8 if args.smoke else 64)
    while training.running():
        x = world.unit(*world.draw(batch)).contiguous(memory_format=torch.channels_last)
        with autocast(args):
            posterior = net.encode(x).latent_dist
            back = net.decode(posterior.sample()).sample
        back = back.float()
        error = (back - x).abs().mean() + 2 * ((back - x) ** 2).mean()
        error = error + sum((a - b).abs().mean() for a, b in zip(edges(back), edges(x)))
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        training.update(error + 5e-4 * kl, kl=kl)
    net = training.average
    with torch.no_grad():
        held = torch.arange(world.count, min(world.count + 64, world.pictures.shape[1]), device=args.device)
        styles = torch.arange(5, device=args.device).repeat_interleave(len(held))
        x = world.unit(styles, held.repeat(5))
        posterior = net.encode(x).latent_dist
        back = net.decode(posterior.mode()).sample
        error = ((back.clamp(-1, 1) - x) / 2) ** 2
        psnr = [round(-10 * error[styles == s].mean().log10().item(), 2) for s in range(5)]
        peak = max(module_peak(net, x))
    show = torch.cat([torch.cat([x[styles == s][:12], back[styles == s][:12]]) for s in range(5)])
    grid(show, args.out / f"{args.job}.png", 12)
    training.finish(psnr=psnr, std=posterior.mode().std().item(), peak=peak)


@torch.no_grad()
def module_peak(net, x):
    """The largest activation of every layer: float16 ends at 65504."""
    peaks, hooks = [], []
    for module in net.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            hooks.append(module.register_forward_hook(lambda m, i, o: peaks.append(o.abs().max().item())))
    net.decode(net.encode(x[::16]).latent_dist.mode())
    for hook in hooks:
        hook.remove()
    return peaks


if __name__ == "__main__":
    main()
