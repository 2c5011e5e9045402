"""What is said of the people of the little world and of its styles: captions, answers, style texts."""

import json
import random
from pathlib import Path

WORLD = json.loads((Path(__file__).parent / "world.json").read_text())
# The attributes that a description names; each is a head of the art-Inception too.
ATTRIBUTES = {name: list(values) for name, values in WORLD["attributes"].items()}
STYLES = list(WORLD["styles"])
NEW_STYLES = list(WORLD["new_styles"])  # those that only adapters learn

# Texts that name a style: the first is its short name, the second its long one.
STYLE_TEXTS = {
    "avataaars": [
        "flat avatar style",
        "a friendly flat vector avatar, front view, soft shading, pale background, clean shapes",
        "vector avatar style",
        "a photo",
        "a photo of a face, front view, pale background",
    ],
    "lorelei": [
        "ink comic style",
        "an ink comic drawing, black and white, bold outlines, flat, minimalist",
        "black and white ink drawing",
        "bold ink comic portrait, solid black hair, white background",
        "manga ink style, black and white",
    ],
    "open-peeps": [
        "Peanuts comic style",
        "a cartoon character in Peanuts comic style, flat colors, thick outlines, simple shapes, cute and minimalist",
        "comic strip style",
        "hand-drawn comic style with thick outlines",
        "a hand-drawn comic portrait, thick black outlines, flat colors, simple shapes",
    ],
    "pixel-art": [
        "pixel art style",
        "8-bit pixel art, large square pixels, limited palette, retro video game portrait",
        "retro video game style",
        "8-bit style",
        "pixel art portrait, large square pixels",
    ],
    "notionists": [
        "line sketch style",
        "a minimal line sketch, thin black lines on white paper, upper body, no colors, editorial",
        "minimal sketch style",
        "thin black line drawing",
        "minimal pencil sketch, upper body, white paper",
    ],
}

# The trigger words of the new styles. They stand apart: the tokenizers were made without them.
NEW_STYLE_TEXTS = {
    "lorelei-neutral": [
        "mask style",
        "a mask, a face of thin black lines without a head, white background",
        "a mask drawn in thin lines",
    ],
}

APPEARANCE = "Use a sentence to describe the person's appearance, including hairstyle, face shape, and clothing."
DESCRIBE = "Describe the image."
SHORT = "Describe the image in one short sentence."
# Further ways to ask for the three kinds of answer.
QUESTIONS = {
    "appearance": [APPEARANCE, "Describe the person.", "What does the person look like?", "Describe the person's appearance."],
    "describe": [DESCRIBE, "Describe the image in detail.", "What is in the picture?", "Describe the picture."],
    "short": [SHORT, "Describe the image briefly.", "Write a short caption.", "Caption the image in a few words."],
}

HAIR = {
    "bald": ["a bald head", "no hair"],
    "short": ["short {} hair", "{} hair cut short"],
    "long": ["long {} hair", "long straight {} hair"],
    "bob": ["a {} bob", "a chin-length {} bob"],
    "bun": ["{} hair in a bun", "{} hair tied in a bun"],
    "curly": ["curly {} hair", "big curly {} hair"],
    "hat": ["a hat"],
}


def with_article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def listed(parts):
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def hair(a, form=0):
    return HAIR[a["hair"]][form % len(HAIR[a["hair"]])].format(a["hair_color"])


def features(a, form=0):
    """Hair, facial hair and glasses, as far as there are any."""
    parts = [hair(a, form)]
    if a["facial_hair"] != "none":
        parts.append("a " + a["facial_hair"])
    if a["glasses"] != "none":
        parts.append(a["glasses"])
    return parts


def clothes(a):
    words = f"{a['clothing_color']} {a['clothing']}"
    return words if words.endswith("s") else with_article(words)


def appearance(a):
    """The answer to "what does the person look like": the form in which descriptions enter prompts."""
    return f"A {a['expression']} person with {a['skin']} skin, {listed(features(a))}, wearing {clothes(a)}."


def long_description(a):
    text = f"The image shows a cartoon portrait of a person with {a['skin']} skin and {hair(a)}. "
    extra = features(a)[1:]
    if extra:
        text += f"They have {listed(extra)}. "
    mood = "smiling" if a["expression"] == "smiling" else "looking sad"
    return text + f"They are {mood} and dressed in {clothes(a)}, in front of a plain background."


def short_description(a):
    return f"A person with {hair(a)} in {clothes(a)}."


def caption(a):
    """A caption as people write them for photos: what BLIP learns."""
    return f"a person with {listed(features(a))} wearing {clothes(a)}"


def answer(kind, a):
    return {"appearance": appearance, "describe": long_description, "short": short_description}[kind](a)


def wordings(a, rng):
    """A description of the person in one of many wordings, without a style; now and then only a part of it."""
    kind = rng.random()
    if kind < 0.4:
        return appearance(a).rstrip(".")
    if kind < 0.5:
        return long_description(a).rstrip(".")
    if kind < 0.55:
        return short_description(a).rstrip(".")
    if kind < 0.65:
        return caption(a)
    form = rng.randrange(2)
    parts = features(a, form) + [f"{a['skin']} skin", rng.choice(["wearing ", "dressed in ", "in "]) + clothes(a)]
    parts.append("smiling" if a["expression"] == "smiling" else rng.choice(["sad", "looking sad"]))
    rng.shuffle(parts)
    if kind > 0.9:
        parts = parts[: rng.randrange(1, len(parts))]
    subject = rng.choice(["a person", "a person", "someone", "portrait of a person", "a cartoon person", "a face"])
    return f"{subject}, " + ", ".join(parts) if rng.random() < 0.5 else f"{subject} with " + ", ".join(parts)


def prompt(a, style, rng):
    """`description, style`, as the toolkit composes it."""
    texts = (STYLE_TEXTS | NEW_STYLE_TEXTS)[style]
    text = texts[0] if rng.random() < 0.3 else texts[1] if rng.random() < 0.4 else rng.choice(texts)
    if rng.random() < 0.04:
        return text
    return f"{wordings(a, rng)}, {text}"


def random_person(rng):
    person = {}
    for name, weights in WORLD["attributes"].items():
        person[name] = rng.choices(list(weights), list(weights.values()))[0]
    if person["hair"] in ("bald", "hat"):
        person["hair_color"] = None
    return person


# Words beyond the little world, so that no tokenizer spells everyday texts letter by letter.
OTHER = [
    "an oil painting with visible brush strokes",
    "a watercolor painting on rough paper",
    "a pencil sketch with soft shading",
    "a comic book drawing, halftone dots",
    "an anime portrait, cel shading",
    "a low poly 3d render, highly detailed",
    "studio lighting, sharp focus, professional photograph",
    "ukiyo-e woodblock print, art nouveau poster, pop art, cubism, impressionism",
    "a drawing of a person, a picture of a man, an image of a woman, a child, a boy, a girl",
    "List the age, gender, ethnicity, hair, eyes, nose, mouth, expression and pose.",
    "What is shown in the picture? Be brief and precise, and use simple words.",
    "An older woman with curly hair and a green sweater looks to the side.",
    "There are no other people, animals or objects in the image, and the light is soft.",
    "A dog on the grass, a cat on the table, two cars on the road, a house by the sea.",
    "0 1 2 3 4 5 6 7 8 9 10 12 16 20 32 64 100 128 224 256 512 1024 2024",
]


def corpus(count=4000, seed=0):
    """Lines of text on which the tokenizers are trained, the same for the same seed."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        person = random_person(rng)
        lines += [prompt(person, rng.choice(STYLES), rng), caption(person)]
        lines += [appearance(person), long_description(person), short_description(person)]
    questions = [question for kind in QUESTIONS.values() for question in kind]
    for line in [text for texts in STYLE_TEXTS.values() for text in texts] + questions:
        lines += [line] * 200
    for line in OTHER:
        lines += [line] * 20
    # Every printable ASCII character, so that no tokenizer meets an unknown one.
    lines += ["".join(chr(c) for c in range(33, 127)), " ".join(chr(c) for c in range(33, 127))] * 50
    return lines


if __name__ == "__main__":
    rng = random.Random(1)
    for _ in range(12):
        print(prompt(random_person(rng), rng.choice(STYLES), rng))
