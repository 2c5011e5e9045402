"""The rows of the comparison: what is measured, on both sides, under which names. Needs nothing but Python."""
from dataclasses import dataclass

# Of the toolkit's figures and the peers', the one that a row compares, and how it is shown.
SECONDS_PER_IMAGE = ("seconds_per_image", "s")
PREFILL_SECONDS = ("prefill_seconds", "ms")
TOKENS_PER_SECOND = ("tokens_per_second", "tok/s")
IMAGES_PER_SECOND = ("images_per_second", "img/s")
PROCESS_SECONDS = ("process_seconds", "s")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    title: str
    # Peers of one family share a process, and a model.
    family: str
    case: tuple
    figure: tuple
    # Arguments of `toolkit bench`, at the published size and for a trial on a small machine. Empty: a whole process,
    # which compare.py starts by itself (processes.py), or nothing that fits a small machine.
    bench: tuple = ()
    tiny: tuple = ()
    compiles: bool = False

    @property
    def more_is_better(self):
        return self.figure[1].endswith("/s")


def rows():
    """All rows, in the order of the table."""
    random, sd3_tiny = "--random-weights", ("mini-sd3", "--steps", "2", "--repeat", "1")
    sd1 = ("sd-v1-5", random, "--strength", "0.8")
    sd1_tiny = ("mini-sd-v1-5", "--steps", "4", "--strength", "0.8", "--repeat", "1")
    phi = ("phi-4-multimodal", random, "--max-new-tokens", "65")
    short = ("--max-new-tokens", "2", "--repeat", "1")
    blip = ("blip-base", random)
    return [
        Row("sd3-1", "SD3-medium with T5, 1024², 28 steps, guidance 7, bfloat16, batch 1", "sd3", (1,),
            SECONDS_PER_IMAGE, ("sd3-medium", random), sd3_tiny, True),
        Row("sd3-4", "SD3-medium, batch 4, per picture", "sd3", (4,), SECONDS_PER_IMAGE,
            ("sd3-medium", random, "--batch-size", "4", "--repeat", "2"), (*sd3_tiny, "--batch-size", "2"), True),
        Row("sd15-1", "SD v1.5 image-to-image, 512², 50 steps × 0.8, guidance 7.5, float16, batch 1", "sd15", (1,),
            SECONDS_PER_IMAGE, sd1, sd1_tiny, True),
        Row("sd15-8", "SD v1.5 image-to-image, batch 8, per picture", "sd15", (8,), SECONDS_PER_IMAGE,
            (*sd1, "--batch-size", "8"), (*sd1_tiny, "--batch-size", "2"), True),
        Row("phi4-1", "Phi-4 decoding after a picture of 1,065 tokens, bfloat16, batch 1", "phi4", (1,),
            TOKENS_PER_SECOND, phi, compiles=True),
        Row("phi4-6", "Phi-4 decoding, batch 6", "phi4", (6,), TOKENS_PER_SECOND, (*phi, "--batch-size", "6"), compiles=True),
        Row("phi4-prefill", "Phi-4 prefill with one 640×480 picture", "phi4", (1,), PREFILL_SECONDS, phi),
        Row("blip-base-1", "BLIP-base, 20 tokens, float16, batch 1", "blip-base", (1,), IMAGES_PER_SECOND, blip,
            (*blip, *short)),
        Row("blip-base-64", "BLIP-base, batch 64", "blip-base", (64,), IMAGES_PER_SECOND, (*blip, "--batch-size", "64"),
            (*blip, "--batch-size", "2", *short)),
        Row("blip-large-64", "BLIP-large, 20 tokens, float16, batch 64", "blip-large", (64,), IMAGES_PER_SECOND,
            ("blip-large", random, "--batch-size", "64"), ("blip-large", random, *short)),
        Row("sd3-start", "whole process to the first SD3 picture with T5, weights in the page cache", "start", (),
            PROCESS_SECONDS),
        Row("artfid", "`evaluate artfid`, whole process, 3 × 5,000 JPEGs of 224²", "artfid", (), PROCESS_SECONDS),
    ]


def named(names):
    """The rows of these names, in the order of the table; `all` is all of them."""
    table = rows()
    wanted = {row.name for row in table} if names == "all" else set(names.split(","))
    unknown = wanted - {row.name for row in table}
    if unknown:
        raise SystemExit(f"no row {', '.join(sorted(unknown))}; there are: {', '.join(row.name for row in table)}")
    return [row for row in table if row.name in wanted]
