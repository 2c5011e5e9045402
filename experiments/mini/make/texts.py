"""Texts on which the tokenizers of the mini checkpoints are trained: what is said of faces and of styles."""

import json
import random
from pathlib import Path

VOCABULARY = json.loads((Path(__file__).parent / "attributes.json").read_text())

STYLES = [
    "lorelei style, black and white line drawing, bold ink outlines",
    "open peeps style, hand-drawn illustration with thick outlines and flat colours",
    "pixel art style, 8-bit, large square pixels, limited palette",
    "notionists style, minimal black and white sketch",
    "an oil painting with visible brush strokes",
    "a watercolor painting on rough paper",
    "a pencil sketch with soft shading",
    "a comic book drawing, halftone dots",
    "an anime portrait, cel shading",
    "a low poly 3d render, highly detailed",
    "a photo, studio lighting, sharp focus, professional photograph",
    "a caricature with exaggerated features",
    "in the style of a cartoon avatar, vector art, plain background",
    "ukiyo-e woodblock print, art nouveau poster, pop art, cubism, impressionism",
    "a portrait in the style of",
    "a face in the style of",
    "a drawing of a person, a picture of a man, an image of a woman, a child, a boy, a girl",
]

INSTRUCTIONS = [
    "Describe the person in this picture.",
    "Describe the image in one short sentence.",
    "Describe the face, the hair, the glasses and the clothing of the person.",
    "What does the person look like? Answer in at most 40 words.",
    "List the age, gender, ethnicity, hair, eyes, nose, mouth, expression and pose.",
    "Write a prompt for an image generator that draws this person.",
    "What is shown in the picture? Be brief and precise, and use simple words.",
]

SENTENCES = [
    "The person has short dark hair and is wearing round glasses and a blue shirt.",
    "She is smiling at the camera, with long blond hair over her shoulders.",
    "He has a full gray beard, brown eyes and a serious expression.",
    "A young man with a red hat stands in front of a white wall.",
    "An older woman with curly hair and a green sweater looks to the side.",
    "This is a close-up portrait of a person with a neutral expression on a plain background.",
    "There are no other people, animals or objects in the image, and the light is soft.",
    "A dog on the grass, a cat on the table, two cars on the road, a house by the sea.",
    "0 1 2 3 4 5 6 7 8 9 10 12 16 20 32 64 100 128 224 256 512 1024 2024",
]


def description(rng):
    """A face in words, as `pictures.js` describes its avatars."""
    pick = lambda table: rng.choice(list(VOCABULARY[table].values()))
    hair_color, cloth_color = pick("hair_color"), pick("cloth_color")
    if rng.random() < 0.15:
        hair = f"a {cloth_color} {pick('headwear')}"
    else:
        hair = pick("hair").replace("{}", hair_color)
    parts = [f"a person with {pick('skin')} skin", hair]
    if rng.random() < 0.3:
        parts.append(f"{hair_color} {pick('facial_hair')}")
    if rng.random() < 0.4:
        parts.append(pick("glasses"))
    clothing = pick("clothing").replace("{}", pick("cloth_color"))
    parts += [pick("expression"), f"wearing a {clothing}"]
    return ", ".join(parts)


def corpus(count=2000, seed=0):
    """Lines of text, the same for the same seed."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        line = description(rng)
        lines += [line, f"{line}, {rng.choice(STYLES)}", line[0].upper() + line[1:] + "."]
    for line in STYLES + INSTRUCTIONS + SENTENCES:
        lines += [line] * 100
    # Every printable ASCII character, so that no tokenizer meets an unknown one.
    lines += ["".join(chr(c) for c in range(33, 127)), " ".join(chr(c) for c in range(33, 127))] * 50
    return lines
