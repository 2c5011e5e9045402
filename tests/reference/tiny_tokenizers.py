"""Tiny CLIP and T5 tokenizers in the layout of the published checkpoints, for the other scripts here."""

import io
import json
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "a young woman with long red hair and blue eyes, wearing a green hooded sweater and round glasses",
    "an old man with a short white beard and a black hat, smiling, in front of a yellow background",
    "a photo of a person's face: she isn't smiling; they've got freckles, it's a close-up portrait",
    "oil painting in the style of impressionism, thick brush strokes, vivid colors, museum quality",
    "pencil sketch, black and white, fine hatching; pixel art, 16 colors; watercolor on rough paper",
    "the quick brown fox jumps over the lazy dog in 2024, we'll see, he'd say i'm done, you're right",
    "ein schönes bild von einem café mit naïve élèves, 日本 の 絵, привет мир",
]


def clip(folder: Path, merges: int = 300, pad: str = "<|endoftext|>", positions: int = 77) -> None:
    """vocab.json, merges.txt and tokenizer_config.json as in openai/clip-vit-large-patch14."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = alphabet + [letter + "</w>" for letter in alphabet]
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=len(base) + merges, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    pairs = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]][:merges]
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


def spiece(file: Path, size: int = 130, rule: str = "nmt_nfkc") -> None:
    """A unigram sentencepiece model with T5's special ids; its normalisation, `nmt_nfkc`, is a table of 240 kB."""
    file.parent.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4), model_writer=model, vocab_size=size, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_name=rule, minloglevel=2, num_threads=1,
    )
    file.write_bytes(model.getvalue())
