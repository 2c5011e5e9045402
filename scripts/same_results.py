#!/usr/bin/env python3
"""Runs experiments with two builds of the program, and compares all that they leave and say.

    python3 scripts/same_results.py BEFORE AFTER                          six photos an experiment
    python3 scripts/same_results.py BEFORE AFTER --quick                  two photos, few steps and tokens
    python3 scripts/same_results.py BEFORE AFTER --only t2i_vs_i2i
    python3 scripts/same_results.py BEFORE AFTER --results              tables and images alone, of what both write
    python3 scripts/same_results.py BEFORE AFTER --work DIR               keeps the runs of BEFORE there for the next time

BEFORE and AFTER are two `toolkit` programs. Each runs the four built-in experiments on the embedded models, a style and a
caption experiment in two shards that are merged, and both kinds over photos of which one is damaged. Every file of the
run folders must be the same byte for byte, and so must stdout, stderr and the exit status. What is left out of the
comparison: columns and figures of time, where the run lies, when it was started, and the pages and plots that show times
(they must be there all the same). The first difference ends it with status 1 and is named.
"""
import argparse
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
PHOTOS = HOME / "experiments/mini/photos"

TIMES = {"seconds", "seconds_per_image", "images_per_second"}
# They show times.
PAGES = re.compile(r"report\.html|plots/.*|gallery/.*")
EXPERIMENTS = ["style_ablation", "img2img_ablation", "t2i_vs_i2i", "caption_benchmark"]


class Different(Exception):
    """What the two programs left or said is not the same."""


class Case:
    """A command, or a few that belong together."""

    def __init__(self, name, *commands):
        self.name, self.commands = name, commands


def cases(limit, quick):
    def start(name, *more):
        sets = []
        if quick:
            sets = ["--set", "max_new_tokens=8" if name == "caption_benchmark" else "steps=3"]
        return ["experiment", name, *sets, *more]

    limited = ["--limit", str(2 if quick else limit)]
    for name in EXPERIMENTS:
        yield Case(name, start(name, *limited, "--out", name))
    for name in ["style_ablation", "caption_benchmark"]:
        shards = [f"{name}-shard-{part}-of-2" for part in (1, 2)]
        runs = [start(name, *limited, "--shard", f"{at + 1}/2", "--out", out) for at, out in enumerate(shards)]
        yield Case(f"{name}, two shards", *runs, ["merge", *shards])
        photos = ["--set", "photos=photos", "--out", f"{name}-damaged"]
        yield Case(f"{name}, a damaged photo", start(name, *photos))


def damaged_photos(folder):
    """Three photos, the second one cut off."""
    folder.mkdir()
    for at, photo in enumerate(sorted(PHOTOS.glob("*.png"))[:3]):
        data = photo.read_bytes()
        (folder / photo.name).write_bytes(data[: len(data) // 2] if at == 1 else data)


def start(program, case, folder):
    """Runs a case in a folder; what each command said, and its exit status."""
    folder.mkdir(parents=True)
    damaged_photos(folder / "photos")
    environment = dict(os.environ, HF_HUB_OFFLINE="1", NO_COLOR="1", TOOLKIT_HOME=str(HOME), COLUMNS="100")
    said = []
    for arguments in case.commands:
        command = [program, "--device", "cpu", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        said.append({"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr})
    shutil.rmtree(folder / "photos")
    # Written last: it says that the case ended.
    (folder / "said.json").write_text(json.dumps(said))


def table(data):
    """A CSV file as rows, its times blanked."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    timed = [at for at, name in enumerate(rows[0] if rows else []) if name in TIMES]
    for row in rows[1:]:
        for at in timed:
            row[at] = ""
    return rows


def manifest(data):
    facts = json.loads(data)
    return {key: value for key, value in facts.items() if key not in ("started", "command")}


def without_times(text):
    """Output without the last column of a table that ends with images/s, times of the log, and lines of progress."""
    lines, timed = [], False
    for line in text.splitlines():
        if re.search(r": \d+ of \d+, \d+ s left$", line):
            continue
        if timed and not line.startswith(("page:", "results:")):
            line = line.rsplit(None, 1)[0]
        timed = timed and not line.startswith(("page:", "results:")) or line.endswith("images/s")
        lines.append(re.sub(r"^\S*\d\d:\d\d:\d\d\S*", "", line))
    return lines


def content(folder, name):
    data = (folder / name).read_bytes()
    if name.endswith((".toml", ".json", ".csv")):
        # A configuration holds where its photos lie.
        data = data.replace(str(folder).encode(), b"RUNS")
    if name == "manifest.json" or name.endswith("/manifest.json"):
        return manifest(data)
    return table(data) if name.endswith(".csv") else data


def files(folder):
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != "said.json")


def first_difference(before, after):
    """Where two contents part, in words."""
    if isinstance(before, bytes):
        at = next((at for at, (a, b) in enumerate(zip(before, after)) if a != b), min(len(before), len(after)))
        return f"byte {at} of {len(before)} before and {len(after)} after"
    if isinstance(before, dict):
        key = next(key for key in sorted({*before, *after}) if before.get(key) != after.get(key))
        return f"{key} is {before.get(key)!r} before and {after.get(key)!r} after"
    for line, (a, b) in enumerate(zip(before, after), 1):
        if a != b:
            return f"line {line} is {a!r} before and {b!r} after"
    return f"{len(before)} lines before and {len(after)} after"


def compare_results(before, after, name):
    """Raises at the first difference between the tables and images that the program of before left and those of after:
    of a step that writes more on purpose."""
    is_page = lambda file: PAGES.fullmatch(file.split("/", 1)[-1])
    names = [file for file in files(before) if file.endswith((".csv", ".png")) and not is_page(file)]
    for file in names:
        if not (after / file).exists():
            raise Different(f"{name}: {file} is there only before")
        a, b = content(before, file), content(after, file)
        if a != b:
            raise Different(f"{name}: {file}: {first_difference(a, b)}")
    return len(names)


def compare(before, after, name):
    """Raises at the first difference between what two programs left and said of one case."""
    said = [json.loads((folder / "said.json").read_text().replace(str(folder), "RUNS")) for folder in (before, after)]
    for at, (a, b) in enumerate(zip(*said), 1):
        for part in ("status", "stdout", "stderr"):
            a_part, b_part = a[part], b[part]
            if part != "status":
                a_part, b_part = without_times(a_part), without_times(b_part)
            elif a_part != b_part:
                raise Different(f"{name}: command {at} ended with {a_part} before and {b_part} after: {b['stderr']}")
            if a_part != b_part:
                raise Different(f"{name}: {part} of command {at}: {first_difference(a_part, b_part)}")
    names = files(before), files(after)
    if names[0] != names[1]:
        only = sorted(set(names[0]) ^ set(names[1]))
        raise Different(f"{name}: {only[0]} is there only {'before' if only[0] in names[0] else 'after'}")
    compared = 0
    for file in names[0]:
        inside = file.split("/", 1)[-1]
        if PAGES.fullmatch(inside):
            continue
        a, b = content(before, file), content(after, file)
        if a != b:
            raise Different(f"{name}: {file}: {first_difference(a, b)}")
        compared += 1
    return compared


def kept(program, work, amount):
    """A folder for the runs of a program, which another program or amount of work never gets."""
    digest = hashlib.sha256(Path(program).read_bytes()).hexdigest()[:12]
    return work / f"before-{digest}-{amount}"


def compare_all(arguments, work):
    before, after = kept(arguments.before, work, "quick" if arguments.quick else arguments.limit), work / "after"
    shutil.rmtree(after, ignore_errors=True)
    chosen = [case for case in cases(arguments.limit, arguments.quick) if case.name.startswith(arguments.only)]
    if not chosen:
        sys.exit(f"no case starts with {arguments.only!r}: {', '.join(case.name for case in cases(1, False))}")
    for case in chosen:
        place = case.name.replace(", ", "-").replace(" ", "-")
        if not (before / place / "said.json").exists():
            shutil.rmtree(before / place, ignore_errors=True)
            start(arguments.before, case, before / place)
        start(arguments.after, case, after / place)
        check = compare_results if arguments.results else compare
        print(f"{case.name}: {check(before / place, after / place, case.name)} files are the same", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=os.path.abspath, help="the program of before")
    parser.add_argument("after", type=os.path.abspath, help="the program of after")
    parser.add_argument("--limit", type=int, default=6, help="photos of each experiment")
    parser.add_argument("--quick", action="store_true", help="two photos, few steps and tokens")
    parser.add_argument("--results", action="store_true", help="tables and images alone, of what both write")
    parser.add_argument("--only", default="", help="cases whose names start with this")
    parser.add_argument("--work", type=Path, help="a folder for the runs, which stays")
    arguments = parser.parse_args()
    try:
        if arguments.work:
            arguments.work.mkdir(parents=True, exist_ok=True)
            compare_all(arguments, arguments.work.resolve())
        else:
            with tempfile.TemporaryDirectory() as work:
                compare_all(arguments, Path(work).resolve())
    except Different as difference:
        sys.exit(f"different: {difference}")
    print("no difference")


if __name__ == "__main__":
    main()
