"""Two tiny captioning sets over the embedded photos, five references each, written from the
attribute lists: `datasets/mini-coco` in the form of COCO's captions_*.json, and
`datasets/mini-flickr30k` in the form of the nlphuji hub folders (a CSV and an image zip).
Run from the repository root: python3 experiments/mini/make/captions.py"""

import csv
import io
import json
import random
import zipfile
from pathlib import Path

MINI = Path("experiments/mini")
SUBJECTS = ["a person", "someone", "a cartoon person", "a figure", "a cartoon character"]
VERBS = ["wearing", "dressed in", "in", "who wears"]


def article(words):
    """`words` with a or an where they lack one."""
    if words.startswith(("a ", "an ")):
        return words
    return ("an " if words[0] in "aeiou" else "a ") + words


def references(attributes, rng):
    """Five captions of one face, each saying another part of what is there."""
    hair, clothing = attributes["hair"], article(attributes["clothing"])
    is_hat = any(word in hair for word in ("hat", "hijab", "turban"))
    extras = [attributes[key] for key in ("glasses", "facial_hair") if attributes[key] != "none"]
    extras = [extra if extra.endswith("glasses") else article(extra) for extra in extras]
    subject = lambda: rng.choice(SUBJECTS)
    head = article(hair) if is_hat else hair
    has_head = f"wearing {head}" if is_hat else f"with {head}"
    also = f" and {rng.choice(extras)}" if extras else ""
    return [
        f"{subject()} {has_head}{also}.".capitalize(),
        f"{subject()} {rng.choice(VERBS)} {clothing}.".capitalize(),
        f"{subject()} with {attributes['skin']} skin and {head}, {attributes['expression']}.".capitalize(),
        f"The {attributes['background']} background shows {subject()} {has_head}, {rng.choice(VERBS)} {clothing}.",
        f"A face {attributes['expression']}, {has_head}{also}, above {clothing}.",
    ]


def coco(people, folder):
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, person in enumerate(people, 1):
        images.append(dict(id=number, file_name=person["file"], height=128, width=128, license=1))
        for caption in person["references"]:
            annotations.append(dict(image_id=number, id=len(annotations) + 1, caption=caption))
    licenses = [dict(id=1, name="see experiments/mini/LICENSES.md")]
    data = dict(info=dict(description="Faces of experiments/mini"), images=images, licenses=licenses, annotations=annotations)
    (folder / "captions_test.json").write_text(json.dumps(data, indent=0) + "\n")


def nlphuji(people, folder):
    folder.mkdir(parents=True, exist_ok=True)
    rows, sentence = io.StringIO(), 0
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["raw", "sentids", "split", "filename", "img_id"])
    for number, person in enumerate(people):
        ids = list(range(sentence, sentence + len(person["references"])))
        sentence += len(ids)
        writer.writerow([json.dumps(person["references"]), json.dumps(ids), "test", person["file"], number])
    (folder / "flickr_annotations_30k.csv").write_text(rows.getvalue())
    with zipfile.ZipFile(folder / "flickr30k-images.zip", "w") as archive:
        for person in people:
            # A fixed date: the same pictures give the same archive.
            entry = zipfile.ZipInfo(f"flickr30k-images/{person['file']}", (2026, 1, 1, 0, 0, 0))
            archive.writestr(entry, (MINI / "photos" / person["file"]).read_bytes())


def main():
    people = json.loads((MINI / "photos/attributes.json").read_text())
    for person in people:
        person["references"] = references(person["attributes"], random.Random(person["id"]))
    half = len(people) // 2
    coco(people[:half], MINI / "datasets/mini-coco")
    nlphuji(people[half:], MINI / "datasets/mini-flickr30k")


if __name__ == "__main__":
    main()
