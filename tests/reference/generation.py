"""Golden texts of greedy and beam search with all the rules, from transformers' `generate`.

usage: python tests/reference/generation.py          (writes tests/golden/generation/)

The model is two tables: the logits of the next token are a row chosen by the last token plus a row
chosen by a sum over the whole text, so that beams matter and a wrongly reordered state shows.
"""

import itertools
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

ROOT = Path(__file__).resolve().parents[1] / "golden" / "generation"
VOCABULARY, SUMS = 23, 31


class TableConfig(PreTrainedConfig):
    model_type = "table"
    vocab_size = VOCABULARY


class Table(PreTrainedModel, GenerationMixin):
    config_class = TableConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        generator = torch.Generator().manual_seed(5)
        self.by_last = torch.nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=generator))
        self.by_sum = torch.nn.Parameter(torch.randn(SUMS, VOCABULARY, generator=generator))
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, input_ids, attention_mask=None, **_):
        places = torch.arange(1, input_ids.shape[1] + 1)
        total = (input_ids * places).cumsum(1) % SUMS
        return CausalLMOutput(logits=self.by_last[input_ids] + self.by_sum[total])


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    model = Table(TableConfig()).eval()
    save_file({name: value.detach() for name, value in model.named_parameters()}, ROOT / "tables.safetensors")
    prompts = [[1, 5, 9, 5], [2, 2, 7, 11], [3, 20, 4, 15], [16, 1, 6, 8]]
    rules = [
        {},
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.8},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 3},
        {"min_length": 9},
        {"min_new_tokens": 7},
        {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "min_length": 8},
    ]
    options = [{"eos_token_id": eos, **rule} for eos in [[0], [0, 12, 17]] for rule in rules]
    for beams, penalty, stopping in itertools.product([2, 4], [-1.0, 0.0, 0.6, 1.0, 2.0], [False, True, "never"]):
        eos = [0] if beams == 2 else [0, 12, 17]
        options.append({"num_beams": beams, "length_penalty": penalty, "early_stopping": stopping, "eos_token_id": eos})
    for rule in rules[1:]:
        options.append({"num_beams": 3, "length_penalty": 1.0, "early_stopping": False, "eos_token_id": [0, 12], **rule})
    cases = []
    for option in options:
        config = GenerationConfig(pad_token_id=22, max_new_tokens=14, do_sample=False, use_cache=False, **option)
        made = model.generate(torch.tensor(prompts), generation_config=config)[:, len(prompts[0]) :]
        texts = []
        for row in made.tolist():
            end = next((i + 1 for i, token in enumerate(row) if token in option["eos_token_id"]), len(row))
            texts.append(row[:end])
        cases.append({"options": option, "texts": texts})
    lengths = [len(text) for case in cases for text in case["texts"]]
    print(len(cases), "cases, lengths", sorted(set(lengths)), "different", len({json.dumps(case["texts"]) for case in cases}))
    (ROOT / "cases.json").write_text(json.dumps({"prompts": prompts, "pad": 22, "max_new_tokens": 14, "cases": cases}))


main()
