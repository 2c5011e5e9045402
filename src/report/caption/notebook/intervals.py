show(results[["dataset", "model", "bleu", "bleu_low", "bleu_high", "meteor", "meteor_low", "meteor_high"]], index=False)
