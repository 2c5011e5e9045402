"""Golden ids of transformers' CLIPTokenizer and T5Tokenizer: tests/golden/text_tokenizers/."""

import json
import shutil
from pathlib import Path

from transformers import CLIPTokenizer, T5Tokenizer

import tiny_tokenizers

OUT = Path(__file__).parent.parent / "golden" / "text_tokenizers"
TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "A YOUNG woman, with RED hair!",
    "she's here; they've gone, I'm not, we'll see: he'd say 'tis o'clock don't",
    "SHE'S HERE; THEY'VE GONE",
    "2024 was the 1st year; 3.14159, 10,000",
    "cafe\u0301 café naïve ﬁancé Ǆ ǅ İstanbul ẞtraße",
    "日本の絵 привет мир 🎨🖌️ emoji 👩‍🎨!",
    "tabs\tand\nnew lines \u00a0 and \u3000 wide spaces   here",
    "!!!??... --- (well) [brackets] {braces} <tags> $5 & 7%",
    "literal <|startoftext|>inside<|endoftext|> and <|ENDOFTEXT|> here",
    "hello! what a picture!",
    "hello!what!!a picture",
    "½ ² ③ Ⅷ ٣ ½cup x² ...,",
    "don’t “quote” – dash — em…",
    "e\u0301e\u0301 a\u0308 \u0301combining first",
    "\u200bzero\u200dwidth\ufeff joiner",
    "</s> and <pad> and <unk> inside",
    "oil painting in the style of impressionism, " * 12,
    "supercalifragilisticexpialidocious" * 9,
    "🎨" * 40,
]


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    tiny_tokenizers.clip(OUT / "clip_l", merges=300)
    tiny_tokenizers.clip(OUT / "clip_g", merges=60, pad="!", positions=32)
    tiny_tokenizers.spiece(OUT / "t5" / "spiece.model", nfkc=True)
    rows = []
    for folder, length in [("clip_l", 77), ("clip_g", 32)]:
        tokenizer = CLIPTokenizer.from_pretrained(OUT / folder)
        assert tokenizer.model_max_length == length
        for text in TEXTS:
            padded = tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids
            rows.append({"tokenizer": folder, "text": text, "ids": padded, "count": len(tokenizer(text).input_ids)})
    tokenizer = T5Tokenizer.from_pretrained(OUT / "t5")
    for text in TEXTS:
        padded = tokenizer(text, padding="max_length", max_length=48, truncation=True).input_ids
        rows.append({"tokenizer": "t5", "text": text, "ids": padded, "count": len(tokenizer(text).input_ids)})
    (OUT / "ids.json").write_text(json.dumps(rows, separators=(",", ":")))


if __name__ == "__main__":
    main()
