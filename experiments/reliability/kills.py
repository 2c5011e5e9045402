#!/usr/bin/env python3
"""Kills running commands at random moments, has the same command go on, and compares what they leave in the end.

    python3 kills.py --toolkit target/release/toolkit --kills 1000                 all four commands, a quarter each
    python3 kills.py --toolkit target/release/toolkit --kills 50 --only merge      one of them
    taskset -c 0 nice python3 kills.py …                                           beside other work

`caption_benchmark` and `style_ablation` (embedded models, a few pictures), `merge` and `report` are each run once
undisturbed. Then, until enough of them were hit: the command is started in a new folder, killed (SIGKILL) at a random
moment, after a random time or when a random number of files is there, and started again, until it ends by itself. What
is in the folder then must be what the undisturbed one left: every file, byte for byte, but for the columns of times, the
manifest's start and, of runs, the pages that show them: those must be what `report` makes of the folder. Nothing half-
written may be left, beside the folder either. It ends with status 1 at the first difference, and keeps that folder.
"""
import argparse
import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MINI = HERE.parent / "mini"

# Few photos and steps: a run is to be short, and yet to have every part of a long one.
STYLE = ["experiment", "style_ablation", "--limit", "2", "--set", "steps=1", "--set", "keep_drawn=true"]
STYLE += ["--set", "style_pictures=styles", "--set", "comparison_size=96", "--set", "batch_size=1"]
CAPTION = ["experiment", "caption_benchmark", "--limit", "2", "--set", "max_new_tokens=8"]

TIMES = {"seconds", "seconds_per_image", "images_per_second"}
# Longer than any of the commands: a process that hangs is a fault.
PATIENCE = 600


class Different(Exception):
    """What the killed runs left is not what the undisturbed one left."""


class Toolkit:
    """The program, started in a folder of its own."""

    def __init__(self, program, cache):
        self.program = program
        self.environment = dict(os.environ, HF_HUB_OFFLINE="1", XDG_CACHE_HOME=str(cache), NO_COLOR="1")

    def start(self, arguments, folder):
        command = [self.program, "--device", "cpu", "--threads", "1", "-q", *arguments]
        return subprocess.Popen(
            command, cwd=folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def finish(self, arguments, folder):
        """Runs to the end, and says how long it took."""
        start = time.monotonic()
        process = self.start(arguments, folder)
        said = process.communicate(timeout=PATIENCE)[1]
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}: {said}")
        return time.monotonic() - start


class Subject:
    """A command that is killed. `prepare` fills the folder it starts in; what it makes is `made`, below that."""

    def __init__(self, name, arguments, made, prepare, timeless):
        self.name, self.arguments, self.made, self.prepare = name, arguments, made, prepare
        # Whether what it makes shows no time of its own, so that every byte counts.
        self.timeless = timeless
        self.kills = self.in_the_middle = self.rounds = 0
        self.seconds, self.files, self.reference = 0.0, 0, None


def few_styles(folder):
    """A few style pictures: their features are a part of a run, not most of it."""
    (folder / "styles").mkdir(parents=True)
    for picture in sorted((MINI / "styles/open-peeps").glob("*.png"))[:3]:
        shutil.copy(picture, folder / "styles")


def subjects(toolkit, base):
    """The four commands, with the folders that `merge` and `report` start from."""
    ready = base / "ready"
    few_styles(ready)
    for shard in "12":
        toolkit.finish([*STYLE, "--shard", f"{shard}/2", "--out", f"run-shard-{shard}-of-2"], ready)
    toolkit.finish([*STYLE, "--out", "run"], ready)
    for name in ["plots", "gallery", "report.html"]:
        remove(ready / "run" / name)

    def copies(*names):
        def prepare(folder):
            for name in names:
                shutil.copytree(ready / name, folder / name)

        return prepare

    merge = ["merge", "run-shard-1-of-2", "run-shard-2-of-2"]
    return [
        Subject("caption_benchmark", [*CAPTION, "--out", "run"], "run", lambda folder: None, False),
        Subject("style_ablation", [*STYLE, "--out", "run"], "run", few_styles, False),
        Subject("merge", merge, "run", copies("run-shard-1-of-2", "run-shard-2-of-2"), True),
        Subject("report", ["report", "run"], "run", copies("run"), True),
    ]


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def files(folder):
    """Every file below, by its name from there."""
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def count(folder):
    """The files below, as fast as can be: it is asked while the command runs."""
    number, folders = 0, [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        number += 1
        except FileNotFoundError:
            pass  # finished files are renamed
    return number


def without_times(name, content):
    """A file's content as it must be after every run."""
    if name.endswith(".csv"):
        rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
        kept = [at for at, column in enumerate(rows[0]) if column not in TIMES]
        return json.dumps([[row[at] for at in kept] for row in rows]).encode()
    if name == "manifest.json":
        return json.dumps({key: value for key, value in json.loads(content).items() if key != "started"}).encode()
    return content


def state(folder, timeless):
    """What must be the same after every run of a command."""
    content = {name: path.read_bytes() for name, path in files(folder).items()}
    if not timeless:
        content = {name: without_times(name, bytes_) for name, bytes_ in content.items() if name != "report.html"}
    return content


def differences(left, right):
    names = sorted(left.keys() | right.keys())
    return [name for name in names if left.get(name) != right.get(name)]


def check(subject, toolkit, folder):
    """Compares what killed runs left in `folder` with the undisturbed one."""
    left_over = [str(path) for path in folder.rglob(".writing-*")]
    if left_over:
        raise Different(f"half-written: {', '.join(left_over)}")
    made = folder / subject.made
    found = differences(state(made, subject.timeless), subject.reference)
    if found:
        raise Different(f"not as the undisturbed run left it: {', '.join(found)}")
    if not subject.timeless:
        before = state(made, True)
        toolkit.finish(["report", subject.made], folder)
        found = differences(before, state(made, True))
        if found:
            raise Different(f"not what report makes of the folder: {', '.join(found)}")


def wait_to_kill(process, subject, folder, chance):
    """Waits for a random moment; whether the process is still there then."""
    moment = time.monotonic() + chance.uniform(0, subject.seconds)
    if chance.random() < 0.5:
        goal = chance.randint(1, subject.files)
        until = time.monotonic() + PATIENCE
        while process.poll() is None and count(folder) < goal:
            if time.monotonic() > until:
                raise Different("it hangs")
            time.sleep(0.004)
        moment = time.monotonic() + chance.uniform(0, 0.05)
    try:
        process.wait(max(moment - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return True
    return False


def one_round(subject, toolkit, folder, chance, most):
    """Has the command killed again and again until it ends by itself (or was killed often enough: then it may end)."""
    folder.mkdir()
    subject.prepare(folder)
    before = count(folder)
    killed = 0
    while True:
        process = toolkit.start(subject.arguments, folder)
        if killed < most and wait_to_kill(process, subject, folder, chance):
            process.kill()
            process.communicate()
            killed += 1
            subject.kills += 1
            subject.in_the_middle += before < count(folder) < subject.files
            continue
        said = process.communicate(timeout=PATIENCE)[1]
        # Killed between its last step and its end, a merge is done.
        done = subject.name == "merge" and killed > 0 and process.returncode == 2 and "is there already" in said
        if process.returncode != 0 and not done:
            raise Different(f"it does not go on, status {process.returncode}: {said.strip()}")
        break
    subject.rounds += 1
    check(subject, toolkit, folder)
    shutil.rmtree(folder)


def measure(subject, toolkit, folder):
    """Runs the command undisturbed."""
    folder.mkdir()
    subject.prepare(folder)
    subject.seconds = toolkit.finish(subject.arguments, folder)
    subject.files = count(folder)
    subject.reference = state(folder / subject.made, subject.timeless)
    shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toolkit", required=True, help="the program, built for release")
    parser.add_argument("--kills", type=int, default=1000, help="in all (default: 1000)")
    parser.add_argument("--only", action="append", help="caption_benchmark, style_ablation, merge or report")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in-a-row", type=int, default=8, help="the most kills before one may end (default: 8)")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="kills-"))
    toolkit = Toolkit(str(Path(options.toolkit).resolve()), base / "cache")
    chosen = [subject for subject in subjects(toolkit, base) if not options.only or subject.name in options.only]
    if not chosen:
        parser.error(f"--only {' '.join(options.only)}: no such command")
    start = time.monotonic()
    print(f"{'command':20} {'kills':>6} {'files there, not all':>21} {'rounds':>7} {'seconds a run':>14}", flush=True)
    for at, subject in enumerate(chosen):
        share = options.kills // len(chosen) + (at < options.kills % len(chosen))
        # Always one place: the configuration of a run says where its pictures lie.
        folder = base / subject.name
        measure(subject, toolkit, folder)
        chance = random.Random(f"{options.seed} {subject.name}")
        while subject.kills < share:
            try:
                one_round(subject, toolkit, folder, chance, min(options.in_a_row, share - subject.kills))
            except Different as found:
                print(f"{subject.name}, after {subject.kills} kills: {found}\nkept: {folder}", file=sys.stderr)
                return 1
        figures = f"{subject.kills:6} {subject.in_the_middle:21} {subject.rounds:7} {subject.seconds:14.2f}"
        print(f"{subject.name:20} {figures}", flush=True)
    minutes = (time.monotonic() - start) / 60
    print(f"{sum(subject.kills for subject in chosen)} kills in {minutes:.0f} min, no difference")
    shutil.rmtree(base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
