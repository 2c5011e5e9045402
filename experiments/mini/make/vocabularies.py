"""Trains the small tokenizers of the mini checkpoints and writes them in the files of the real ones."""

import io
import json
from pathlib import Path

import sentencepiece
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import bytes_to_unicode

CLIP_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
# The word pattern of o200k, which Phi-4 uses.
O200K_PATTERN = "|".join(
    [
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    ]
)

# Phi-4-multimodal's added tokens, by their distance from `<|endoftext|>`.
PHI4_ADDED = {
    "<|endoftext|>": 0,
    "<|endoftext10|>": 11,
    "<|endoftext11|>": 12,
    "<|endofprompt|>": 19,
    "<|assistant|>": 20,
    "<|end|>": 21,
    "<|user|>": 22,
    "<|system|>": 23,
    "<|tool|>": 24,
    "<|/tool|>": 25,
    "<|tool_call|>": 26,
    "<|/tool_call|>": 27,
    "<|tool_response|>": 28,
    "<|tag|>": 29,
}
# Embedding rows from `<|endoftext|>` on: 200064 - 199999.
PHI4_ROWS = 65
PHI4_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)


def write_json(path, value):
    Path(path).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def merges_of(tokenizer):
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def write_bpe(folder, vocab, merges):
    write_json(folder / "vocab.json", vocab)
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines)


def clip(folders, lines, size):
    """CLIP's byte-level BPE with `</w>`: the first folder pads with the end token, the others with `!`."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    letters = list(bytes_to_unicode().values())
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    # OpenAI's order: bytes, bytes at a word's end, merges, and the two special tokens last.
    tokens = letters + [letter + "</w>" for letter in letters]
    merges = merges_of(tokenizer)[: size - len(tokens) - 2]
    tokens += ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    assert len(vocab) == len(tokens), "a merge made a token twice"
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True, exist_ok=True)
        write_bpe(folder, vocab, merges)
        special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
        special["pad_token"] = "<|endoftext|>" if i == 0 else "!"
        config = {"add_prefix_space": False, "clean_up_tokenization_spaces": True, "do_lower_case": True}
        config |= {"errors": "replace", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
        write_json(folder / "special_tokens_map.json", special)
        write_json(folder / "tokenizer_config.json", config | special)
    return len(vocab)


def t5(folder, lines, size):
    """T5's sentencepiece unigram model; its hundred sentinels follow the pieces of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    # Into memory: into a file, it would write down where that is.
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        model_type="unigram",
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        num_threads=1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    tokenizer = transformers.T5TokenizerFast.from_pretrained(folder, extra_ids=100, model_max_length=512)
    tokenizer.save_pretrained(folder)
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    sentinels = [f"<extra_id_{n}>" for n in range(100)]
    write_json(folder / "special_tokens_map.json", {"additional_special_tokens": sentinels} | special)
    return len(tokenizer)


def phi4(folder, lines, size):
    """Phi-4-multimodal's byte-level BPE. `size` counts all embedding rows; returns the id of each added token."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(O200K_PATTERN), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    base = size - PHI4_ROWS
    trainer = trainers.BpeTrainer(
        vocab_size=base, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    vocab = tokenizer.get_vocab()
    assert len(vocab) == base, f"the texts give only {len(vocab)} tokens, not {base}"
    vocab = dict(sorted(vocab.items(), key=lambda item: item[1]))
    added = {token: base + distance for token, distance in PHI4_ADDED.items()}
    # Ids may not leave gaps: places without a name of their own are filled, and belong to the vocabulary.
    vocab["<|endoftext|>"] = base
    vocab |= {f"<|endoftext{n}|>": base + 1 + n for n in range(18)}
    vocab["<|endofprompt|>"] = added["<|endofprompt|>"]
    write_bpe(folder, vocab, merges_of(tokenizer))
    entries = [
        {"id": i, "content": token} | dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
        for token, i in added.items()
    ]
    document = json.loads(tokenizer.to_str())
    document["model"]["vocab"] = vocab
    document["added_tokens"] = [entry | {"special": True} for entry in entries]
    write_json(folder / "tokenizer.json", document)
    write_json(folder / "added_tokens.json", {token: i for token, i in added.items() if token not in vocab})
    end = "<|endoftext|>"
    special = {"bos_token": end, "eos_token": end, "pad_token": end, "unk_token": end}
    write_json(folder / "special_tokens_map.json", special)
    decoder = {str(e["id"]): {k: v for k, v in e.items() if k != "id"} | {"special": True} for e in entries}
    config = {"add_bos_token": False, "add_eos_token": False, "add_prefix_space": False}
    config |= {"added_tokens_decoder": decoder, **special, "chat_template": PHI4_TEMPLATE}
    config |= {"clean_up_tokenization_spaces": False, "errors": "replace", "model_max_length": 131072}
    config |= {"tokenizer_class": "GPT2TokenizerFast"}
    write_json(folder / "tokenizer_config.json", config)
    check = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "<|user|><|endoftext10|>Describe the person.<|end|><|assistant|>"
    assert check.decode(check.encode(text).ids, skip_special_tokens=False) == text
    assert all(check.token_to_id(token) == i for token, i in added.items())
    return added
