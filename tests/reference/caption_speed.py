#!/usr/bin/env python3
"""Writes 5,000 captions with 5 references each, and times nltk, rouge-score and BLEU in Python on them.

    python3 tests/reference/caption_speed.py WORDNET PUNKT FOLDER

writes FOLDER/predictions.json and FOLDER/references.json for `toolkit evaluate captions`; WORDNET and PUNKT as for
caption_metrics.py.
"""
import json
import random
import sys
import time
from pathlib import Path

import caption_metrics as golden


def main():
    wordnet_folder, punkt, folder = sys.argv[1:4]
    rng = random.Random(11)
    words = sorted(word for word in json.loads(Path(punkt).read_text("utf8"))["ortho_context"] if word.isalpha())
    more = lambda: " ".join([golden.caption(rng), *rng.sample(words, rng.randint(0, 3))])  # noqa: E731
    predictions, references = {}, {}
    for item in range(5000):
        base = more()
        predictions[str(item)] = golden.vary(rng, base)
        references[str(item)] = [golden.vary(rng, base) if rng.random() < 0.6 else more() for _ in range(5)]
    for name, value in [("predictions", predictions), ("references", references)]:
        Path(folder, f"{name}.json").write_text(json.dumps(value), "utf8")

    golden.install_punkt(punkt)
    wordnet = golden.open_wordnet(wordnet_folder)
    pairs = [(predictions[item], references[item]) for item in predictions]
    tokens13 = golden.Tokenizer13a()
    scorer = golden.rouge_scorer.RougeScorer(golden.ROUGES)
    tokenize = golden.nltk.word_tokenize

    def bleu():
        return golden.evaluate_bleu([(tokens13(p).split(), [tokens13(r).split() for r in rs]) for p, rs in pairs])

    def rouge():
        scores = [scorer.score_multi(rs, p) for p, rs in pairs]
        return {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in golden.ROUGES}

    def meteor():
        score = golden.meteor_score
        values = [score([tokenize(r) for r in rs], tokenize(p), wordnet=wordnet) for p, rs in pairs]
        return sum(values) / len(values)

    for measure in (bleu, rouge, meteor):
        start = time.perf_counter()
        value = measure()
        print(f"{measure.__name__}: {time.perf_counter() - start:.2f} s, {value}", flush=True)


if __name__ == "__main__":
    main()
