#!/usr/bin/env python3
"""A study with raters whose preferences are known, on a finished run: does the report say what they prefer?

    python3 raters.py RUN --toolkit target/release/toolkit --studies 40

Each study takes a copy of the run, starts `toolkit view`, and has several raters vote on the pairs that it offers, and rate
pictures, over HTTP as a browser does. How they decide is drawn by chance from strengths that are given: one picture is
preferred to another with the odds exp(difference), and called a success with the odds exp(strength). Halfway `view` is
killed (SIGKILL) and started again. Then `toolkit export table` says the strengths and the success rates with their
intervals: of 95 % intervals about 95 in 100 must hold what was given.
"""
import argparse
import json
import math
import random
import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

STRENGTHS = [0.9, 0.1, -1.0]


class View:
    """`toolkit view` of a run folder."""

    def __init__(self, toolkit, run):
        command = [toolkit, "-q", "view", "--no-open", "--port", "0", run]
        self.program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.program.stdout.readline().strip()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path, body):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def kill(self):
        self.program.kill()
        self.program.wait()


def chance(odds):
    return 1 / (1 + math.exp(-odds))


def study(toolkit, run, names, raters, votes, random):
    """Has the raters judge; what they were, is in `ratings.csv` and `votes.csv` of the run."""
    strength = dict(zip(names, STRENGTHS))
    view = View(toolkit, run)
    photos = sorted(file.stem for file in (run / "images" / names[0]).glob("*.png"))
    for half in range(2):
        for rater in range(raters):
            name = f"rater {rater}"
            for _ in range(votes // 2):
                pair = view.get(f"api/pair?rater={name.replace(' ', '%20')}")["pair"]
                left = random.random() < chance(strength[pair["left"]] - strength[pair["right"]])
                view.post("api/votes", {"rater": name, "choice": "left" if left else "right",
                                        **{key: pair[key] for key in ("id", "left", "right")}})
        # Each picture by one rater: the interval of the success rate is over pictures.
        for photo in photos[half::2]:
            for strategy in names:
                rating = "success" if random.random() < chance(strength[strategy]) else "failure"
                view.post("api/ratings", {"rater": f"rater {random.randrange(raters)}", "id": photo, "strategy": strategy,
                                          "rating": rating})
        view.kill()
        if half == 0:
            view = View(toolkit, run)


def told(toolkit, run):
    """Strategy: success rate and strength, each with low and high."""
    command = [toolkit, "export", "table", run, "--to", "markdown"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = text.replace("−", "-").replace("*", "").replace("\\", "")
    line = re.compile(r"^\| (\S+) \| \d+ \| (\d+) \[(\d+), (\d+)\] \| [^|]* \| \d+ \| (\S+) \[(\S+), (\S+)\] \|$", re.M)
    found = {}
    for name, *numbers in line.findall(text):
        numbers = [float(number) for number in numbers]
        found[name] = ([number / 100 for number in numbers[:3]], numbers[3:])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--toolkit", default="target/release/toolkit", type=Path)
    parser.add_argument("--studies", default=40, type=int)
    parser.add_argument("--raters", default=5, type=int)
    parser.add_argument("--votes", default=60, type=int, help="of each rater")
    args = parser.parse_args()
    toolkit = args.toolkit.absolute()
    names = [folder.name for folder in sorted((args.run / "images").iterdir())][:len(STRENGTHS)]
    mean = sum(STRENGTHS) / len(STRENGTHS)
    right = strengths = rates = 0
    for seed in range(args.studies):
        with tempfile.TemporaryDirectory() as scratch:
            run = Path(scratch) / "run"
            shutil.copytree(args.run, run)
            study(toolkit, run, names, args.raters, args.votes, random.Random(seed))
            found = told(toolkit, run)
        order = sorted(names, key=lambda name: -found[name][1][0])
        right += order == names
        for name, given in zip(names, STRENGTHS):
            (_, low, high), (value, least, most) = found[name]
            # A share is printed in whole percent.
            rates += low - 0.005 <= chance(given) <= high + 0.005
            strengths += least <= given - mean <= most
        print(f"study {seed}: {' > '.join(order)}", flush=True)
    count = args.studies * len(names)
    print(f"{right} of {args.studies} studies have the order of the strengths that were given; {strengths} of {count} "
          f"intervals hold the strength, {rates} of {count} the success rate")


if __name__ == "__main__":
    main()
