#!/usr/bin/env python3
"""Packs the language data that METEOR needs into the two files beside this script.

    python3 pack.py wordnet /usr/share/wordnet     Debian package wordnet-base 1:3.0-37 (WordNet 3.0)
    python3 pack.py punkt english.json             src/data/english.json of the crate punkt 1.0.5

Both are raw-deflate streams; src/metrics/text/meteor/wordnet.rs and punkt.rs read them and describe the layout.
Running the script again gives the same bytes.
"""
import json
import re
import sys
import zlib
from pathlib import Path

HERE = Path(__file__).parent
POS = ("noun", "verb", "adj", "adv")


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write(name, raw):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(raw) + packer.flush()
    (HERE / name).write_bytes(packed)
    print(f"{name}: {len(raw)} bytes, {len(packed)} packed")


def data_lines(path):
    """The lines of a WordNet file without its licence header, whose lines begin with a space."""
    return [line for line in path.read_text("utf8").splitlines() if line and not line.startswith(" ")]


def read_synsets(root, pos):
    """offset -> lemma names that are single words, without the syntactic marker of adjectives."""
    synsets = {}
    for line in data_lines(root / f"data.{pos}"):
        fields = line.split("|")[0].split()
        names = [fields[4 + 2 * i] for i in range(int(fields[3], 16))]
        names = [re.match(r"(.*?)(\([^()]*\))?$", name).group(1) for name in names]
        synsets[int(fields[0])] = [name for name in names if "_" not in name]
    return synsets


def read_index(root, pos):
    """lemma -> offsets of its synsets, in the order of the file."""
    index = {}
    for line in data_lines(root / f"index.{pos}"):
        fields = line.split()
        count = int(fields[2])
        index[fields[0]] = [int(offset) for offset in fields[-count:]]
    return index


def read_exceptions(root, pos):
    rows = (line.split() for line in (root / f"{pos}.exc").read_text("utf8").splitlines())
    return {row[0]: row[1:] for row in rows}


def wordnet(root):
    root = Path(root)
    names, index, exceptions = {}, [], []
    for number, pos in enumerate(POS):
        synsets = read_synsets(root, pos)
        # A synset without a single-word lemma offers no synonym, so neither it nor a lemma that has
        # nothing else need be kept.
        kept = {
            lemma: [(number, offset) for offset in offsets if synsets[offset]]
            for lemma, offsets in read_index(root, pos).items()
        }
        index.append({lemma: offsets for lemma, offsets in kept.items() if offsets})
        exceptions.append(read_exceptions(root, pos))
        names.update({(number, offset): words for offset, words in synsets.items()})

    words = {word for lemmas in index for word in lemmas}
    words |= {word for key in {key for lemmas in index for keys in lemmas.values() for key in keys} for word in names[key]}
    words |= {word for table in exceptions for form, bases in table.items() for word in (form, *bases)}
    words = sorted(words, key=lambda word: word.encode())
    number_of = {word: i for i, word in enumerate(words)}

    synset_number, synset_order = {}, []
    raw = bytearray()
    text = "\n".join(words).encode()
    raw += varint(len(words)) + varint(len(text)) + text
    for lemmas in index:
        raw += varint(len(lemmas))
        last = 0
        for lemma in sorted(lemmas, key=number_of.get):
            raw += varint(number_of[lemma] - last) + varint(len(lemmas[lemma]))
            last = number_of[lemma]
            for key in lemmas[lemma]:
                # Synsets are numbered as they first appear: 0 is the next new one, k the k-th before it.
                raw += varint(len(synset_order) - synset_number.get(key, len(synset_order)))
                if key not in synset_number:
                    synset_number[key] = len(synset_order)
                    synset_order.append(key)
    raw += varint(len(synset_order))
    for key in synset_order:
        raw += varint(len(names[key])) + b"".join(varint(number_of[word]) for word in names[key])
    for table in exceptions:
        raw += varint(len(table))
        last = 0
        for form in sorted(table, key=number_of.get):
            raw += varint(number_of[form] - last) + varint(len(table[form]))
            last = number_of[form]
            raw += b"".join(varint(number_of[base]) for base in table[form])
    write("wordnet-3.0.bin", bytes(raw))


def punkt(path):
    data = json.loads(Path(path).read_text("utf8"))
    blocks = [
        sorted(data["abbrev_types"]),
        sorted(data["sentence_starters"]),
        sorted("\t".join(pair) for pair in data["collocations"]),
        sorted(f"{word}\t{flags}" for word, flags in data["ortho_context"].items()),
    ]
    write("punkt-english.bin", "\n\n".join("\n".join(block) for block in blocks).encode())


if __name__ == "__main__":
    {"wordnet": wordnet, "punkt": punkt}[sys.argv[1]](sys.argv[2])
