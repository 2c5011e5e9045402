"""Two tiny captioning sets over the embedded photos, five references each, written from the
attributes of the people: `datasets/mini-coco` in the form of COCO's captions_*.json, and
`datasets/mini-flickr30k` in the form of the nlphuji hub folders (a CSV and an image zip).
Run from the repository root: python3 experiments/mini/make/captions.py"""

import csv
import io
import json
import random
import zipfile
from pathlib import Path

import texts

MINI = Path("experiments/mini")
SIZE = 96
SUBJECTS = ["a person", "someone", "a cartoon person", "a figure"]


def references(attributes, rng):
    """Five captions of one face, as five people would write them: some say more, some less."""
    subject = lambda: rng.choice(SUBJECTS)
    parts, clothes = texts.features(attributes), texts.clothes(attributes)
    mood = "smiling" if attributes["expression"] == "smiling" else "looking sad"
    other = texts.listed(texts.features(attributes, 1))
    return [
        f"{subject()} with {texts.listed(parts)} wearing {clothes}.".capitalize(),
        f"{subject()} with {other} in {clothes}.".capitalize(),
        f"A {attributes['expression']} person with {attributes['skin']} skin and {parts[0]}, wearing {clothes}.",
        f"{subject()} in {clothes} with {texts.listed(parts)}, {mood}.".capitalize(),
        f"Portrait of {subject()} with {texts.listed(parts)}, dressed in {clothes}.",
    ]


def coco(people, folder):
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, person in enumerate(people, 1):
        images.append(dict(id=number, file_name=person["file"], height=SIZE, width=SIZE, license=1))
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
