"""Whole processes, timed from outside: what a user waits for. Both sides read the same files."""
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import peer_artfid
import peer_start

HERE = Path(__file__).resolve().parent
PROMPT = "a cat"


class Failed(Exception):
    """One line for the record."""


def run(command, deadline):
    """Seconds that the process took, and what it printed; within what is left until `deadline`."""
    start, left = time.monotonic(), deadline - time.monotonic()
    if left <= 0:
        raise Failed("no time was left")
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"stopped after {left:.0f} s") from error
    except OSError as error:
        raise Failed(f"cannot be started: {error}") from error
    if done.returncode:
        raise Failed(" ".join(done.stderr.split()[-40:]) or f"exit status {done.returncode}")
    return time.monotonic() - start, done.stdout, done.stderr


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def peak_of(log):
    """The toolkit's own word on its memory, in the log of `-v`."""
    found = re.search(r"peak memory: (\d+) bytes", log)
    return {"peak_memory_bytes": int(found[1])} if found else {}


def python(script, *args):
    return [sys.executable, "-W", "ignore", HERE / script, *args]


class Start:
    """From the start of a process to the first picture in a file."""

    def __init__(self, scratch, tiny):
        self.folder = HERE.parent / "mini/models/mini-sd3" if tiny else scratch / "sd3"
        self.out, self.size = scratch / "start.png", ("2", "128") if tiny else ("28", "1024")

    def prepare(self, deadline):
        if (self.folder / "model_index.json").is_file():
            return
        if not (self.folder / peer_start.WHOLE).is_file():
            run(python("peer_start.py", "--prepare", self.folder), deadline)
        run(python("sd3_folder.py", self.folder), deadline)

    def peers(self):
        return {"peer": python("peer_start.py", self.folder, self.out, *self.size)}

    def toolkit(self, toolkit):
        steps, side = self.size
        return [*toolkit, "-v", "stylize", "--model", self.folder, "--prompt", PROMPT, "--seed", "0", "--steps", steps,
                "--width", side, "--height", side, "--out", self.out]

    def limited(self, toolkit, deadline):
        """The same picture in less memory, GiB: how much was used, and whether it is the same to the last byte."""
        expected, found = self.out.read_bytes(), {}
        for gib in (24, 14):
            self.out.unlink()
            seconds, _, log = run(self.toolkit([*toolkit, "--memory-limit", str(gib)]), deadline)
            found[gib] = {"process_seconds": seconds, "same_picture": self.out.read_bytes() == expected} | peak_of(log)
        return {"limited": found}

    # Runs of peer and toolkit after one that brings the files into the page cache.
    repeat = (2, 3)


class Artfid:
    """ArtFID of three folders."""

    def __init__(self, scratch, tiny):
        self.root, self.count = scratch / "artfid", 8 if tiny else 5000

    def prepare(self, deadline):
        if not (self.root / peer_artfid.WHOLE).is_file():
            run(python("peer_artfid.py", "--prepare", self.root, self.count), deadline)

    def peers(self):
        # art-fid's own command line reads with one loader; as many as there are cores are as fast as it gets.
        cores = os.cpu_count() or 1
        return {"peer": python("peer_artfid.py", self.root, cores), "one_loader": python("peer_artfid.py", self.root, 1)}

    def toolkit(self, toolkit):
        root = self.root
        return [*toolkit, "-v", "evaluate", "artfid", "--content", root / "content", "--style", root / "style",
                "--stylized", root / "stylized", "--inception", root / peer_artfid.INCEPTION, "--lpips-backbone",
                root / peer_artfid.ALEXNET, "--mode", "art_fid", "--format", "json"]

    repeat = (1, 3)


PROCESSES = {"start": Start, "artfid": Artfid}


def median_process(command, repeat, deadline):
    if repeat > 1:
        run(command, deadline)
    timed = [run(command, deadline) for _ in range(repeat)]
    return statistics.median(seconds for seconds, _, _ in timed), timed[-1]


def measure_peer(process, deadline):
    process.prepare(deadline)
    figures = {}
    for name, command in process.peers().items():
        seconds, (_, printed, _) = median_process(command, process.repeat[0], deadline)
        if name == "peer":
            shown = ["python3", *command[3:]]
            figures |= last_json(printed) | {"process_seconds": seconds, "command": as_typed(shown)}
        else:
            figures[f"{name}_seconds"] = seconds
    return figures


def measure_toolkit(process, toolkit, deadline):
    process.prepare(deadline)
    command = process.toolkit(toolkit)
    seconds, (_, _, log) = median_process(command, process.repeat[1], deadline)
    figures = {"process_seconds": seconds, "command": as_typed(["toolkit", *command[len(toolkit):]])} | peak_of(log)
    return figures | (process.limited(toolkit, deadline) if hasattr(process, "limited") else {})


def as_typed(command):
    """A command as it stands in a record: files without the folders of this machine."""
    return shlex.join(Path(part).name if str(part).startswith("/") else str(part) for part in command)
