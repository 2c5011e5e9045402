"""Runs in shards on a real Slurm: python3 -B tests/slurm/main.py PROGRAM.

A job array over both nodes, one task cancelled at work, the merge that then refuses, the same command again: what comes
out is what one process makes.
"""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from cluster import Cluster, provide

# Small, and long enough to be cancelled in the middle.
RUN = ["style_ablation", "--device", "cpu", "--limit", "6", "--set", "steps=10", "--set", "comparison_size=96"]
PATIENCE = 600


def content(file):
    """The bytes of a file; the rows of a CSV file without what a clock says."""
    if file.suffix != ".csv":
        return file.read_bytes()
    with open(file, newline="") as text:
        rows = list(csv.DictReader(text))
    return [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in rows]


def files(run):
    """What must not depend on how a run was shared out: all tables, and what was drawn and measured."""
    names = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    kept = [name for name in names if name.suffix == ".csv" or name.parts[0] in ("images", "photos", "features")]
    return {name: content(run / name) for name in kept}


class OnACluster(unittest.TestCase):
    program = None

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.cluster.__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)
        folder = tempfile.mkdtemp(prefix="it's a run ")
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.folder = Path(folder).resolve()

    def start(self, *command):
        """What a command says that goes well."""
        options = {"cwd": self.folder, "env": self.cluster.environment | {"HF_HUB_OFFLINE": "1"}, "timeout": PATIENCE}
        done = subprocess.run(command, capture_output=True, text=True, **options)
        self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def submit(self):
        options = ["--out", "run", "--tasks", "3", "--time", "30", "--sbatch", 'comment=so "it" is']
        return self.start(self.program, "submit", *RUN, *options)

    def jobs(self):
        return json.loads((self.folder / "run/slurm/job.json").read_text())

    def log(self, name):
        return (self.folder / "run/slurm" / name).read_text()

    def until(self, what, come):
        self.cluster.wait(what, come, PATIENCE)

    def test_a_run_in_shards_ends_as_one_process_does(self):
        shards = [self.folder / f"run-shard-{shard}-of-3" for shard in (1, 2, 3)]
        self.submit()
        array, merge = self.jobs()["arrays"][0]["job"], self.jobs()["merge"]
        self.assertIn("left alone", self.submit())
        self.assertEqual(len(self.jobs()["arrays"]), 1, "what is in the queue is not submitted again")
        # A task that is at work is told to end.
        items = shards[0] / "items.csv"
        self.until("a task is at work", lambda: items.exists() and items.read_text().count("\n") > 1)
        self.start("scancel", f"{array}_1")
        self.until("all jobs have ended", lambda: not self.cluster.queue())
        self.assertIn("the same command goes on from there", self.log("shard-1.log"))
        said = self.cluster.ask("scontrol", "--oneliner", "show", "job", array)
        self.assertEqual(set(re.findall(r" NodeList=(\S+)", said)), {"d1", "d2"}, said)
        self.assertIn('Comment=so "it" is ', said)
        refused = f"not merged: {shards[0]} is not finished (log {self.folder}/run/slurm/shard-1.log)"
        self.assertIn(refused, self.log("merge.log"))
        self.assertNotIn("shard-2-of-3 is", self.log("merge.log"))
        self.assertFalse((self.folder / "run/results.csv").exists())

        said = self.submit()
        self.assertIn(f"complete: shards 2-3 of 3\nended without finishing: shard 1 of 3, see {self.folder}", said)
        self.assertEqual(self.jobs()["arrays"][1]["shards"], [1])
        self.until("all jobs have ended", lambda: not self.cluster.queue())
        self.assertIn("are there already", self.log("shard-1.log"), "it goes on where it was stopped")
        self.assertTrue((self.folder / "run/report.html").exists(), self.log("merge.log"))
        self.assertIn("is complete and merged", self.submit())
        self.assertNotEqual(self.jobs()["merge"], merge)

        self.start(self.program, "experiment", *RUN, "--out", "whole")
        merged, whole = files(self.folder / "run"), files(self.folder / "whole")
        self.assertEqual(list(merged), list(whole))
        self.assertEqual([name for name in whole if merged[name] != whole[name]], [])

    def test_slurm_says_which_shard_a_process_is(self):
        # A shard without photos says which one it would be; only the first would have one.
        ask = f"'{self.program}' experiment style_ablation --limit 1 --shard auto"
        logs = self.cluster.folder
        arrays = [("4-8:2", 8, "error: shard 3/3 has no photos"), ("2,5", 5, "of a job array with gaps")]
        for array, last, _ in arrays:
            command = f"[ $SLURM_ARRAY_TASK_ID != {last} ] || {ask}"
            self.start("sbatch", f"--array={array}", f"--output={logs}/{last}-%a.txt", "--wrap", command)
        script = logs / "rank.sh"
        script.write_text(f"[ $SLURM_PROCID = 0 ] || {ask}\n")
        self.start("sbatch", "--ntasks=2", f"--output={logs}/ranks.txt", "--wrap", f"{ask}; srun bash {script}")
        self.until("all jobs have ended", lambda: not self.cluster.queue())
        for _, last, expected in arrays:
            self.assertIn(expected, (logs / f"{last}-{last}.txt").read_text())
        said = (logs / "ranks.txt").read_text()
        self.assertIn("this is the script of a job, not a task of it", said)
        self.assertIn("error: shard 2/2 has no photos", said)


def main():
    # What ends this program ends the daemons first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    OnACluster.program = str(Path(sys.argv.pop(1)).resolve())
    missing = provide()
    if missing:
        print(f"not tested on a real Slurm: {missing}", file=sys.stderr)
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    unittest.main(verbosity=1, exit=True)


if __name__ == "__main__":
    main()
