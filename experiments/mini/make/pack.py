"""Packs the raw pictures of `node pictures.js --train N --out DIR` for the trainings: python pack.py DIR PACK

A gigabyte of drawings that share their parts becomes a few megabytes.
"""

import lzma
import shutil
import sys
from pathlib import Path

import texts

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 4, "dict_size": 1 << 27}]


def main():
    source, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "people.json", target)
    for style in texts.STYLES + texts.NEW_STYLES:
        packed = lzma.compress((source / f"{style}.rgb").read_bytes(), lzma.FORMAT_XZ, filters=FILTERS)
        (target / f"{style}.rgb.xz").write_bytes(packed)
        print(f"{style}: {len(packed) / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
