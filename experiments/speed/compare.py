#!/usr/bin/env python3
"""Runs the toolkit and its peers in turn on one machine, and writes what came out into BENCHMARKS.md.

    python3 compare.py --toolkit "target/release/toolkit" --results speed.json            all rows, eager peers
    python3 compare.py --toolkit … --results speed.json --rows sd3-1 --sides compiled     slow to compile: one by one
    python3 compare.py --results speed.json --write BENCHMARKS.md                         needs neither GPU nor toolkit

Results are kept by GPU and row; what is measured again replaces what was there, and the file is written after each
figure, so a run that was stopped keeps what it had, and several runs make one table. Beside a GPU it needs torch,
transformers, diffusers, lpips, art-fid, scipy, scikit-learn and Pillow (peers.py, peer_start.py, peer_artfid.py).
"""
import argparse
import datetime
import json
import os
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import processes
from processes import HERE, PROCESSES, Failed, run
from rows import named

SIDES = ("peer", "toolkit", "compiled")


class Peers:
    """peers.py, kept running for the rows of one family."""

    def __init__(self, tiny):
        self.tiny, self.family, self.process = tiny, None, None

    def command(self, *args):
        return [sys.executable, "-W", "ignore", str(HERE / "peers.py"), *(["--tiny"] if self.tiny else []), *args]

    def measure(self, row, compiled, deadline):
        if self.process is None or self.family != row.family:
            self.stop()
            self.start(row.family)
        self.process.stdin.write(json.dumps({"row": row.name, "compiled": compiled}) + "\n")
        self.process.stdin.flush()
        while True:
            try:
                line = self.lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                self.stop()
                raise Failed("the peer was stopped: its time was over") from None
            if line is None:
                self.stop()
                raise Failed("the peer ended by itself (see its messages above)")
            if line.startswith('{"row"'):
                break
        figures = json.loads(line)
        if "error" in figures:
            raise Failed(figures["error"])
        return figures | {"command": shell("python3 experiments/speed/peers.py", "--rows", row.name,
                                           *(["--compiled"] if compiled else []))}

    def start(self, family):
        self.family, self.lines = family, queue.Queue()
        self.process = subprocess.Popen(self.command("--serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def read(source, lines):
            with source:
                for line in source:
                    lines.put(line)
            lines.put(None)

        threading.Thread(target=read, args=(self.process.stdout, self.lines), daemon=True).start()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
        self.process = None


class Comparison:
    def __init__(self, args):
        self.args, self.peers = args, Peers(args.tiny)
        self.toolkit = [*shlex.split(args.toolkit), *(["--device", args.device] if args.device else [])]
        self.end = time.monotonic() + args.budget
        self.processes, self.benched = {}, {}
        self.scratch = Path(args.scratch or tempfile.gettempdir()) / "toolkit-speed"
        self.scratch.mkdir(parents=True, exist_ok=True)

    def run(self, rows):
        self.results = load(self.args.results, self.args.tiny)
        try:
            self.look_at_machine()
            for row in rows:
                for side in self.args.sides.split(","):
                    self.measure(row, side)
        finally:
            self.peers.stop()

    def look_at_machine(self):
        """Its names, and what it can do: measured anew, since no two cards run at the same clocks."""
        deadline = min(self.end, time.monotonic() + self.args.row_budget)
        found = processes.last_json(run(self.peers.command("--machine"), deadline)[1])
        self.gpu = found.pop("gpu")
        version = run([*self.toolkit, "--version"], deadline)[1].split()[-1]
        self.versions = found.pop("versions") | {"toolkit": version, "driver": driver()}
        self.machine = self.results["machines"].setdefault(self.gpu, {"rows": {}})
        self.machine |= {"ceilings": found["ceilings"], "versions": self.versions, "date": today()}
        save(self.results, self.args.results)
        say(f"{self.gpu}: " + ", ".join(f"{name} {value:.4g}" for name, value in found["ceilings"].items()))

    def measure(self, row, side):
        deadline = min(self.end, time.monotonic() + self.args.row_budget)
        if side == "compiled" and not row.compiles:
            return
        if time.monotonic() >= self.end:
            return say(f"{row.name} {side}: left out, the time is over")
        start = time.monotonic()
        try:
            figures = self.figures(row, side, deadline)
        except Failed as error:
            # What an earlier run measured stays.
            return say(f"{row.name} {side}: {error}")
        figures |= {"value": figures[row.figure[0]], "date": today(), "versions": self.versions}
        self.machine["rows"].setdefault(row.name, {})[side] = figures
        save(self.results, self.args.results)
        say(f"{row.name} {side}: {figures['value']:.4g} {row.figure[0]} [{time.monotonic() - start:.0f} s]")

    def figures(self, row, side, deadline):
        if row.family in PROCESSES:
            if row.family not in self.processes:
                self.processes[row.family] = PROCESSES[row.family](self.scratch, self.args.tiny)
            process = self.processes[row.family]
            self.peers.stop()
            if side == "toolkit":
                return processes.measure_toolkit(process, self.toolkit, deadline)
            return processes.measure_peer(process, deadline)
        if side == "toolkit":
            return self.bench(row, deadline)
        return self.peers.measure(row, side == "compiled", deadline)

    def bench(self, row, deadline):
        arguments = row.tiny if self.args.tiny else row.bench
        if not arguments:
            raise Failed("the toolkit builds it at its published size only: not in a trial")
        if arguments not in self.benched:  # two rows may be two figures of one run
            command = [*self.toolkit, "bench", *arguments, "--format", "json"]
            figures = json.loads(run(command, deadline)[1])
            self.benched[arguments] = figures | {"command": shell("toolkit bench", *arguments)}
        return dict(self.benched[arguments])


def save(results, file):
    whole = Path(f"{file}.part")
    whole.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(whole, file)


def load(file, tiny):
    if not Path(file).exists():
        return {"tiny": tiny, "machines": {}}
    try:
        results = json.loads(Path(file).read_text())
        trial = results["tiny"]
        results["machines"].values()
    except (ValueError, LookupError, AttributeError, TypeError):
        raise SystemExit(f"{file}: not results of this script; give another file") from None
    if trial != tiny:
        raise SystemExit(f"{file}: results {'of a trial (--tiny)' if trial else 'that are no trial'}; give another file")
    return results


def shell(program, *arguments):
    return f"{program} {shlex.join(arguments)}"


def driver():
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def today():
    return datetime.date.today().isoformat()


def say(line):
    print(line, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", required=True, metavar="FILE.json", help="what was measured; made if it is not there")
    parser.add_argument("--toolkit", metavar="COMMAND", help="measure, with this toolkit")
    parser.add_argument("--rows", default="all", help="names, with commas between them (rows.py)")
    parser.add_argument("--sides", default="peer,toolkit", help=f"of {','.join(SIDES)}")
    parser.add_argument("--row-budget", type=float, default=240, metavar="S", help="seconds for one side of one row")
    parser.add_argument("--budget", type=float, default=540, metavar="S", help="seconds for all")
    parser.add_argument("--device", help="the toolkit's --device")
    parser.add_argument("--scratch", metavar="DIR", help="for weights and pictures of whole processes (16 GB)")
    parser.add_argument("--tiny", action="store_true", help="a trial on a small machine; its numbers mean nothing")
    parser.add_argument("--write", metavar="BENCHMARKS.md", help="put the table into this file, between its two markers")
    args = parser.parse_args()
    if unknown := set(args.sides.split(",")) - set(SIDES):
        parser.error(f"no side {', '.join(sorted(unknown))}: {', '.join(SIDES)}")
    rows = named(args.rows)
    if not args.toolkit and not args.write:
        parser.error("--toolkit COMMAND measures, --write FILE writes the table: give one of them, or both")
    if args.toolkit:
        Comparison(args).run(rows)
    if args.write:
        import render

        results = load(args.results, args.tiny)
        if "counts" not in results:
            counted = run([sys.executable, "-W", "ignore", HERE / "counts.py", "--json"], time.monotonic() + 300)[1]
            save(results | {"counts": processes.last_json(counted)}, args.results)
            results = load(args.results, args.tiny)
        render.write(results, Path(args.write))


if __name__ == "__main__":
    main()
