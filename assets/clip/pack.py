"""Packs CLIP's merges: python assets/clip/pack.py FOLDER, with FOLDER/bpe_simple_vocab_16e6.txt.gz of the PyPI package
open_clip_torch (the same file as in https://github.com/openai/CLIP).

CLIP uses the first 48,894 merges only: 49,408 tokens less 2 · 256 letters and two special tokens.
"""

import gzip
import sys
from pathlib import Path

MERGES = 49408 - 2 * 256 - 2


def main() -> None:
    source = Path(sys.argv[1]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(source.read_bytes()).decode().split("\n")[1 : MERGES + 1]
    packed = gzip.compress("\n".join(lines).encode() + b"\n", compresslevel=9, mtime=0)
    (Path(__file__).parent / "merges.txt.gz").write_bytes(packed)


if __name__ == "__main__":
    main()
