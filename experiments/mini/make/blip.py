"""The checkpoint of `mini-blip`: BLIP in the layout of blip-image-captioning-base (a `.bin`, vocab.txt),
narrow and untrained. Run from the repository root: python experiments/mini/make/blip.py"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BlipConfig, BlipForConditionalGeneration

from texts import corpus

FOLDER = Path("experiments/mini/models/mini-blip")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = 1024


def vocabulary():
    """BERT's WordPiece, trained on what is said of faces."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=WORDS, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    vocab = tokenizer.get_vocab()
    return sorted(vocab, key=vocab.get)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    words = vocabulary()
    (FOLDER / "vocab.txt").write_text("\n".join(words) + "\n")
    names = ["pad", "unk", "cls", "sep", "mask"]
    tokens = {f"{name}_token": token for name, token in zip(names, SPECIAL)}
    (FOLDER / "special_tokens_map.json").write_text(json.dumps(tokens, indent=2) + "\n")
    options = {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer"}
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(options | tokens, indent=2) + "\n")
    preprocessor = {"do_normalize": True, "do_resize": True, "image_processor_type": "BlipImageProcessor", "size": 96}
    preprocessor["image_mean"] = [0.48145466, 0.4578275, 0.40821073]
    preprocessor["image_std"] = [0.26862954, 0.26130258, 0.27577711]
    (FOLDER / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")

    shape = dict(hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4)
    # Two rows beyond the vocabulary: the start tokens of decoder and encoder, as in the real file.
    text = shape | dict(vocab_size=len(words) + 2, bos_token_id=len(words), eos_token_id=2, pad_token_id=0, sep_token_id=3)
    text |= dict(max_position_embeddings=64)
    config = BlipConfig(vision_config=shape | dict(image_size=96, patch_size=16), text_config=text)
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() > 1:
                value.normal_(0, 0.15)
    state = {key: value.half() for key, value in model.state_dict().items()}
    torch.save(state, FOLDER / "pytorch_model.bin")
    config.architectures = ["BlipForConditionalGeneration"]
    config.to_json_file(FOLDER / "config.json", use_diff=False)
    (FOLDER / "README.md").write_text(
        "`mini-blip`: the layout of blip-image-captioning-base, narrow and untrained; made by `experiments/mini/make/blip.py`.\n"
    )


if __name__ == "__main__":
    main()
