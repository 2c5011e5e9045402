"""Tiny CLIP and T5 tokenizers in the layout of the published checkpoints, for the other scripts here."""

import io
import json
import tempfile
from collections import Counter
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import pre_tokenizers

CORPUS = [
    "a young woman with long red hair and blue eyes, wearing a green hooded sweater and round glasses",
    "an old man with a short white beard and a black hat, smiling, in front of a yellow background",
    "a photo of a person's face: she isn't smiling; they've got freckles, it's a close-up portrait",
    "oil painting in the style of impressionism, thick brush strokes, vivid colors, museum quality",
    "pencil sketch, black and white, fine hatching; pixel art, 16 colors; watercolor on rough paper",
    "the quick brown fox jumps over the lazy dog in 2024, we'll see, he'd say i'm done, you're right",
    "ein schönes bild von einem café mit naïve élèves, 日本 の 絵, привет мир",
]


def train_merges(count: int) -> list[tuple[str, str]]:
    """The commonest pairs, one after the other; `tokenizers.trainers` breaks ties differently from run to run."""
    split = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    words = Counter(word for line in CORPUS for word, _ in split.pre_tokenize_str(line.lower()))
    words = [([*word[:-1], word[-1] + "</w>"], n) for word, n in words.items()]
    merges = []
    for _ in range(count):
        pairs = Counter()
        for word, n in words:
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word, _ in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def clip(folder: Path, merges: int = 300, pad: str = "<|endoftext|>", positions: int = 77) -> None:
    """vocab.json, merges.txt and tokenizer_config.json as in openai/clip-vit-large-patch14."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = alphabet + [letter + "</w>" for letter in alphabet]
    pairs = train_merges(merges)
    tokens = base + ["".join(pair) for pair in pairs]
    tokens = list(dict.fromkeys(tokens)) + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs))
    config = {
        "bos_token": {"__type": "AddedToken", "content": "<|startoftext|>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
        "eos_token": {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
        "unk_token": {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
        "pad_token": pad,
        "model_max_length": positions,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def spiece(file: Path, size: int = 130, nfkc: bool = False) -> None:
    """A unigram sentencepiece model with T5's special ids. With `nfkc` it normalises as the published one does,
    by a table of 240 kB; else by one of a single rule."""
    file.parent.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write("2026\t2E 2E 2E\n")
        rules.flush()
        rule = {"normalization_rule_name": "nmt_nfkc"} if nfkc else {"normalization_rule_tsv": rules.name}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 4), model_writer=model, vocab_size=size, model_type="unigram",
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2, num_threads=1, **rule,
        )
    # The trainer writes down its command, and with it the name of the rules' file.
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    proto.normalizer_spec.normalization_rule_tsv = ""
    file.write_bytes(proto.SerializeToString())
