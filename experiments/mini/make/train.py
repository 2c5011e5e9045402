"""Runs all trainings side by side on one GPU, each by its own clock, and packs what they learnt.

    python train.py --data PACK --tokenizers MODELS --out DIR [--resume DIR] [--seconds 540] [--jobs …] [--smoke]

`--jobs adapters` trains the adapters instead, of the finished generators (MODELS: `models/` as a whole).
DIR gets weights-1.tar … weights-3.tar (`NAME.pt`, float32 averages) and report.tar (logs, figures, sample grids).
A second call with `--resume` goes on from the weights of the first.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

HERE = Path(__file__).parent
# Job: script, when it starts, and its seconds, as shares of the whole. The autoencoders go first and nearly alone.
JOBS = {
    "sd3-vae": ("train_vae.py", 0, 0.21),
    "sd15-vae": ("train_vae.py", 0, 0.21),
    "sd3": ("train_generators.py", 0, 0.88),
    "sd15": ("train_generators.py", 0, 0.88),
    "blip": ("train_captioners.py", 0, 0.5),
    "art-inception": ("train_judges.py", 0.22, 0.4),
    "alexnet": ("train_judges.py", 0.22, 0.25),
    "phi4": ("train_captioners.py", 0.22, 0.7),
    "clip": ("train_metrics.py", 0, 0.5),
    "csd": ("train_metrics.py", 0, 0.2),
}
ADAPTERS = {
    "lora-sd-v1-5": ("train_adapters.py", 0, 0.4),
    "lora-sd3": ("train_adapters.py", 0, 0.4),
    "controlnet": ("train_adapters.py", 0, 0.72),
    "ip-adapter": ("train_adapters.py", 0, 0.72),
}
TARS = {"weights-1": ["sd3"], "weights-2": ["sd15", "phi4"], "weights-3": ["sd3-vae", "sd15-vae", "art-inception", "alexnet", "blip", "clip", "csd"]}
TARS |= {"adapters": list(ADAPTERS)}


def job_of(entry):
    job, *changed = entry.split("=")
    script, start, share = (JOBS | ADAPTERS)[job]
    if changed:
        start, share = map(float, changed)
    return job, (script, start, share)


def launch(args, work, job, script, share):
    command = [sys.executable, HERE / script, job, "--data", args.data, "--out", work, "--seconds", args.seconds * share]
    command += ["--tokenizers", args.tokenizers] + (["--resume", args.resume] if args.resume else [])
    command += ["--smoke"] if args.smoke else []
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "true", "OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    with open(work / f"{job}.log", "w") as log:
        return subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, env=environment)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--jobs", default=",".join(JOBS), help="NAME or NAME=START=SHARE, …")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    jobs = ",".join(ADAPTERS) if args.jobs == "adapters" else args.jobs
    started = time.time()
    work = Path("/tmp/mini-training") if not args.smoke else args.out / "work"
    work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    processes, waiting = {}, dict(job_of(entry) for entry in jobs.split(","))
    # What has not ended by then has saved its averages a minute ago at most.
    deadline = started + (900 if args.smoke else args.seconds * 1.03)
    while waiting or any(p.poll() is None for p in processes.values()):
        for job, (script, start, share) in list(waiting.items()):
            if args.smoke or time.time() - started >= start * args.seconds:
                processes[job] = launch(args, work, job, script, share)
                del waiting[job]
        if time.time() > deadline:
            break
        time.sleep(1)
    failed = False
    for job, process in processes.items():
        if process.poll() is None:
            process.kill()
        print(f"== {job}: status {process.wait()}")
        failed = failed or process.returncode != 0
        print("\n".join((work / f"{job}.log").read_text().splitlines()[-6:])[-1500:])
    for name, packed in TARS.items():
        # A training leaves the averages of its weights, that of an adapter its folder.
        files = [work / (job if job in ADAPTERS else f"{job}.pt") for job in packed]
        files = [file for file in files if file.exists()]
        if not files:
            continue
        with tarfile.open(args.out / f"{name}.tar", "w") as tar:
            for file in files:
                tar.add(file, file.name)
    with tarfile.open(args.out / "report.tar.gz", "w:gz") as tar:
        for file in sorted(work.iterdir()):
            if file.suffix in (".log", ".json", ".png"):
                tar.add(file, file.name)
    print(f"{time.time() - started:.0f} s")
    sys.exit(failed)


if __name__ == "__main__":
    main()
