"""A real Slurm on this machine: a controller and two nodes of one CPU each, on loopback, with a munge of its own.

Nothing of it is left behind: all of it lies in one temporary folder, and its daemons are children in the foreground,
which are ended here, and by the kernel where this process is killed.
"""

import ctypes
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NODES = ["d1", "d2"]
DAEMONS = ["munged", "slurmctld", "slurmd", "slurmstepd"]
CLIENTS = ["sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun"]
PATIENCE = 60

CONFIGURATION = """
ClusterName=check
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.soc
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_min_interval=100000
KillWait=10
NodeName=d1 NodeHostname=d1 NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=d2 NodeHostname=d2 NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=main Nodes=d1,d2 Default=YES State=UP
"""


def program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def provide():
    """Installs Slurm and munge where that can be done; gives the reason where they are not there afterwards."""
    if all(program(name) for name in DAEMONS + CLIENTS):
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return "slurm-wlm and munge are not installed, and only root installs them, with apt-get"
    print("installing slurm-wlm and munge", file=sys.stderr)
    # No daemon of the packages is to be started.
    policy = Path("/usr/sbin/policy-rc.d")
    own = not policy.exists()
    if own:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "slurm-wlm", "munge"]
        for command in [install, ["apt-get", "update", "--quiet"], install]:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if command is install and done.returncode == 0:
                return None
        return "apt-get does not install slurm-wlm and munge: " + " ".join(done.stderr.split()[-30:])
    finally:
        if own:
            policy.unlink()


def die_with_parent():
    """In a child, before it starts: it is ended when its parent is."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def free_ports(count):
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in listening]
    for each in listening:
        each.close()
    return ports


class Cluster:
    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.daemons = []
        # munge's socket must be reached by everybody.
        self.folder.chmod(0o755)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        folder = self.folder
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(64))
        own = [f"--{name}={folder}/munge.{name[:3]}" for name in ["socket", "pid-file", "log-file", "seed-file"]]
        self.daemon("munged", ["--foreground", f"--key-file={key}", *own])
        self.wait("munge is there", (folder / "munge.soc").exists)
        configuration = folder / "slurm.conf"
        values = {"folder": folder, "host": socket.gethostname(), "user": getpass.getuser(), "ports": free_ports(3)}
        configuration.write_text(CONFIGURATION.format(**values))
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        self.environment = own | {"SLURM_CONF": str(configuration)}
        self.daemon("slurmctld", ["-D", "-f", configuration, "-L", folder / "slurmctld.log"])
        for node in NODES:
            options = ["-D", "-N", node, "-f", configuration, "-d", program("slurmstepd"), "-L", folder / f"{node}.log"]
            self.daemon("slurmd", options)
        nodes = ["sinfo", "--noheader", "--Node", "--format=%T"]
        self.wait("both nodes are idle", lambda: self.ask(*nodes).split() == ["idle"] * len(NODES))

    def daemon(self, name, options):
        with open(self.folder / f"{name}.out", "ab") as log:
            child = subprocess.Popen(
                [program(name), *map(str, options)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        self.daemons.append(child)

    def ask(self, *command):
        """What a command of Slurm says; nothing where it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout if done.returncode == 0 else ""

    def queue(self):
        """Of each task in the queue what it is called."""
        return self.ask("squeue", "--noheader", "--array", "--format=%i").split()

    def wait(self, what, come, patience=PATIENCE):
        end = time.monotonic() + patience
        while not come():
            for child in self.daemons:
                if child.poll() is not None:
                    raise RuntimeError(f"{child.args[0]} ended: {self.logs()}")
            if time.monotonic() > end:
                raise RuntimeError(f"waited {patience} s in vain until {what}: {self.logs()}")
            time.sleep(0.1)

    def logs(self):
        """The ends of what the daemons say."""
        files = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "".join(f"\n--- {file.name}\n{file.read_text(errors='replace')[-2000:]}" for file in sorted(files))

    def __exit__(self, *_):
        if getattr(self, "environment", None) and len(self.daemons) == 2 + len(NODES):
            self.ask("scancel", "--full", "--signal=KILL", "--user", getpass.getuser())
            self.ask("scancel", "--user", getpass.getuser())
            end = time.monotonic() + 20
            while self.queue() and time.monotonic() < end:
                time.sleep(0.1)
        for child in reversed(self.daemons):
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
