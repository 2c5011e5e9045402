#!/usr/bin/env python3
"""What users wait for: whole processes of the toolkit and of plain scripts of its peers, in turn on one machine, on the
same files. Writes what came out into a record, and rows for BENCHMARKS.md.

    python3 whole.py --toolkit target/release/toolkit --record whole.json captions-blip study     these two rows
    python3 whole.py --toolkit … --record whole.json --sides toolkit --devices cuda:all study     another device
    python3 whole.py --record whole.json --write BENCHMARKS.md                                    needs no GPU

Rows: captions-phi4, captions-blip, study, start, artfid; all where none is named. The first run makes models and
pictures in the scratch folder (30 GB). A peer that does a part of the work alone says so: the seconds that grow with
the pictures are then scaled. Beside a GPU it needs torch, transformers, diffusers, lpips, art-fid, scipy and Pillow.
"""

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path

import processes
from processes import Failed, last_json, peak_of, python, run

REPOSITORY = Path(__file__).resolve().parents[2]
STYLE_PICTURES = REPOSITORY / "experiments/mini/styles/open-peeps"
BEGIN, END = "<!-- whole: written by experiments/speed/whole.py -->", "<!-- whole: end -->"


class Part:
    """One row."""

    def __init__(self, options):
        self.options, self.root, self.tiny = options, options.scratch, options.tiny

    def make(self, *names, deadline):
        names = tuple(dict.fromkeys(names))
        if not all((self.root / name).exists() for name in names):
            say(f"making {', '.join(names)}")
            run(python("whole_models.py", self.root, *names, *(["--tiny"] if self.tiny else [])), deadline)
        for file in (file for name in names for file in (self.root / name).rglob("*") if file.is_file()):
            # Into the page cache: neither side is to pay for the disk.
            with open(file, "rb", buffering=0) as source:
                while source.read(1 << 24):
                    pass


class Captions(Part):
    """`family` at `tokens` each; a peer may describe fewer pictures."""

    def __init__(self, options, family, model, tokens, count, batches):
        super().__init__(options)
        self.family, self.model, self.peer_model = family, model, {"phi4": "phi4-peer"}.get(model, model)
        self.tokens, self.count = (4, 8) if self.tiny else (tokens, options.pictures or count)
        self.photos, self.batches = f"photos-{self.count}", batches
        self.title = f"{family}: captions of {self.count:,} JPEGs of 640×480, {self.tokens} tokens"

    def prepare(self, deadline):
        self.make(self.model, self.peer_model, self.photos, deadline=deadline)

    def toolkit(self, toolkit):
        return [*toolkit, "-v", "caption", "--max-new-tokens", self.tokens, "--format", "csv", "--model",
                self.root / self.model, self.root / self.photos]

    def figures(self, printed, log):
        return peak_of(log) | {"captions": printed.count("\n") - 1}

    def peers(self):
        for batch, most in self.batches:
            count = min(self.count, self.options.peer_pictures or most)
            arguments = (self.model, self.root / self.peer_model, self.root / self.photos, count, batch, self.tokens)
            yield f"batch {batch}", python("peer_captions.py", *arguments), self.scaled

    def scaled(self, seconds, told):
        """With all pictures: the seconds of captions grow with them."""
        rest = seconds - told["captions_seconds"]
        return rest + told["captions_seconds"] * self.count / told["pictures"], told["pictures"] / self.count


class Study(Part):
    """Photos in two styles."""

    styles = 2

    def __init__(self, options):
        super().__init__(options)
        self.photos = 3 if self.tiny else options.photos
        self.steps, self.side, self.tokens = (2, 64, 3) if self.tiny else (28, 1024, 64)
        self.title = (f"study: {self.photos} photos × {self.styles} styles at {self.side}², {self.steps} steps "
                      "(Phi-4, SD3-medium without T5, ArtFID)")

    def prepare(self, deadline):
        self.make("phi4", "phi4-peer", "sd3", "nets", f"photos-{self.photos}", deadline=deadline)

    def toolkit(self, toolkit):
        return [*toolkit, "-v", "bench", "study", "--weights", self.root, "--photos", self.photos, "--styles",
                self.styles, "--steps", self.steps, "--width", self.side, "--height", self.side, "--max-new-tokens",
                self.tokens, "--set", f"photos={self.root / f'photos-{self.photos}'}"]

    def figures(self, printed, _log):
        return json.loads(printed)

    def peers(self):
        count = min(self.photos, self.options.peer_photos)
        for batch in self.options.study_batches:
            out = tempfile.mkdtemp(dir=self.root)
            arguments = (self.root, self.root / f"photos-{self.photos}", count, self.styles, STYLE_PICTURES, out, batch,
                         self.steps, self.side, self.tokens)
            yield f"batch {batch}", python("peer_study.py", *arguments), self.scaled

    def scaled(self, seconds, told):
        """With all photos: describing, drawing and resizing grow with them, loading and art-fid's matrix roots do not."""
        growing = sum(told["phases"][phase] for phase in ("describing", "drawing", "resizing"))
        return seconds + growing * (self.photos / told["photos"] - 1), told["photos"] / self.photos


class Existing(Part):
    """A row of processes.py."""

    def __init__(self, options, process, title):
        super().__init__(options)
        # Its SD3 has a T5, unlike the study's.
        scratch = options.scratch / "processes"
        scratch.mkdir(exist_ok=True)
        self.process, self.title = process(scratch, options.tiny), title

    def prepare(self, deadline):
        self.process.prepare(deadline)

    def toolkit(self, toolkit):
        return self.process.toolkit(toolkit)

    def figures(self, _printed, log):
        return peak_of(log)

    def peers(self):
        for name, command in self.process.peers().items():
            yield {"peer": "as fast as it goes"}.get(name, name.replace("_", " ")), command, None


# Batches of peers, and how many pictures at most each describes: of more pictures the same time each.
PARTS = {
    "captions-phi4": lambda options: Captions(options, "Phi-4", "phi4", 64, 1000, options.batches or [(6, 120), (32, 512)]),
    "captions-blip": lambda options: Captions(options, "BLIP-base", "blip", 20, 5000, options.batches or [(6, 600), (64, 5000)]),
    "study": Study,
    "start": lambda options: Existing(options, processes.Start, "start to the first SD3 picture with T5"),
    "artfid": lambda options: Existing(options, processes.Artfid, "`evaluate artfid`, 3 × 5,000 JPEGs of 224²"),
}


def measure_toolkit(part, options, deadline):
    toolkit = [*shlex.split(options.toolkit), *(["--device", options.devices] if options.devices else [])]
    command = part.toolkit(toolkit)
    seconds, printed, log = run(command, deadline)
    shown = processes.as_typed(["toolkit", *command[len(shlex.split(options.toolkit)):]])
    shown = shown.replace(f"{options.scratch}/", "")
    return {"process_seconds": seconds, "command": shown} | part.figures(printed, log)


def measure_peer(command, scale, deadline):
    seconds, printed, _ = run(command, deadline)
    told = last_json(printed)
    figures = {"process_seconds": seconds, "command": processes.as_typed(["python3", *command[3:]])} | told
    if scale:
        figures["process_seconds"], figures["share"] = scale(seconds, told)
        figures["measured_seconds"] = seconds
    return figures


def measure(name, options, record):
    """Toolkit and peers take turns."""
    part = PARTS[name](options)
    deadline = time.monotonic() + options.budget
    part.prepare(deadline)
    row = record["rows"].setdefault(name, {"sides": {}})
    row |= {"title": part.title, "machine": machine()}
    side = f"toolkit {options.devices}" if options.devices else "toolkit"
    for at in range(max(options.rounds, options.peer_rounds)):
        turns = []
        if "toolkit" in options.sides and at < options.rounds:
            turns.append((side, lambda: measure_toolkit(part, options, deadline)))
        if "peer" in options.sides and at < options.peer_rounds:
            turns += [(f"peer, {label}", lambda c=command, s=scale: measure_peer(c, s, deadline))
                      for label, command, scale in part.peers()]
        for label, turn in turns:
            try:
                figures = turn()
            except Failed as error:
                say(f"{name}, {label}: {error}")
                continue
            if at == 0:
                row["sides"][label] = []
            row["sides"].setdefault(label, []).append(figures)
            share = figures.get("share", 1)
            say(f"{name}, {label}: {figures['process_seconds']:.2f} s" + (f" (from {share:.0%} of the work)" if share < 1 else ""))
            for phase in figures.get("phases", []) if label.startswith("toolkit") else []:
                parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in phase["parts"].items())
                busy = "-" if phase["device_busy"] is None else f"{phase['device_busy']:.0%}"
                say(f"    {phase['phase']:18} {phase['seconds']:7.2f}  busy {busy:>4}  {parts}")
            save(options.record, record)


def tables(record):
    """One for each machine: what was measured in turn stands together."""
    machines = {json.dumps(row["machine"]): row["machine"] for row in record["rows"].values()}
    return "\n".join(f"{about(machine)}\n\n{table([row for row in record['rows'].values() if row['machine'] == machine])}"
                     for machine in machines.values())


def table(rows):
    lines = ["| whole process, s | Python | here | factor |", "|---|---|---|---|"]
    remarks = []
    for row in rows:
        sides = {label: (statistics.median(figures["process_seconds"] for figures in all), all[-1]) for label, all in row["sides"].items()}
        peers = {label: side for label, side in sides.items() if label.startswith("peer")}
        shown = lambda label, side: f"{side[0]:.1f} ({label.removeprefix('peer, ').removeprefix('toolkit ')}{scaled(side[1])})"
        best = min((side[0] for side in peers.values()), default=None)
        for label, side in sides.items():
            if label.startswith("toolkit"):
                cell = f"{side[0]:.2f}" + (f" ({label.removeprefix('toolkit ')})" if label != "toolkit" else "")
                factor = "–" if best is None else f"{best / side[0]:.1f}"
                lines.append(f"| {row['title']} | {'; '.join(shown(*peer) for peer in peers.items()) or '–'} | **{cell}** | {factor} |")
        remarks += [side[1]["command"] for side in sides.values()]
    return "\n".join([*lines, "", "Scaled: described and drawn were that share of the pictures, and their seconds scaled.", "",
                      *(f"    {command}" for command in dict.fromkeys(remarks)), ""])


def scaled(figures):
    share = figures.get("share", 1)
    return "" if share >= 1 else f", scaled from {share:.0%}"


def about(machine):
    return f"{machine['gpu']}, {machine['cores']} cores, {machine['date']}; {machine['versions']}."


def machine():
    import datetime
    from importlib.metadata import PackageNotFoundError, version

    import torch

    def known(name):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"no {name}"

    names = ("torch", "transformers", "diffusers")
    gpus = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
    return {"gpu": " + ".join(gpus) or "no GPU", "cores": len(os.sched_getaffinity(0)), "date": datetime.date.today().isoformat(),
            "versions": ", ".join(known(name) for name in names)}


def save(file, record):
    whole = Path(f"{file}.part")
    whole.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(whole, file)


def say(line):
    print(line, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, required=True, metavar="FILE.json", help="made if it is not there")
    parser.add_argument("--toolkit", metavar="COMMAND", help="measure, with this toolkit")
    parser.add_argument("--write", type=Path, metavar="BENCHMARKS.md", help="put the table between its two markers there")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "toolkit-whole")
    parser.add_argument("--sides", default="toolkit,peer")
    parser.add_argument("--devices", help="the toolkit's --device")
    parser.add_argument("--rounds", type=int, default=2, help="of the toolkit")
    parser.add_argument("--peer-rounds", type=int, default=1)
    parser.add_argument("--budget", type=float, default=500, metavar="S", help="seconds for each row")
    parser.add_argument("--pictures", type=int, help="that are described (1,000 by Phi-4, 5,000 by BLIP)")
    parser.add_argument("--peer-pictures", type=int, help="the most that a peer describes")
    parser.add_argument("--batches", type=lambda text: [(int(size), 10**9) for size in text.split(",")], help="of describing peers")
    parser.add_argument("--photos", type=int, default=40, help="of the study")
    parser.add_argument("--peer-photos", type=int, default=10, help="the most of the peer's study")
    parser.add_argument("--study-batches", type=lambda text: [int(size) for size in text.split(",")], default=[6])
    parser.add_argument("--tiny", action="store_true", help="small models on a small machine; its numbers mean nothing")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(PARTS):
        parser.error(f"no row is called {', '.join(sorted(unknown))}: {', '.join(PARTS)}")
    options.scratch.mkdir(parents=True, exist_ok=True)
    record = json.loads(options.record.read_text()) if options.record.exists() else {"rows": {}}
    if options.toolkit:
        for name in options.rows or PARTS:
            try:
                measure(name, options, record)
            except Failed as error:
                say(f"{name}: {error}")
    print(tables(record))
    if options.write:
        text = options.write.read_text()
        if text.count(BEGIN) != 1 or text.count(END) != 1:
            parser.error(f"{options.write}: put these two lines where the table belongs:\n{BEGIN}\n{END}")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        options.write.write_text(f"{before}{BEGIN}\n{tables(record)}{END}{after}")


if __name__ == "__main__":
    main()
