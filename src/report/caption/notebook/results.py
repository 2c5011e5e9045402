show(results.drop(columns=["bleu_low", "bleu_high", "meteor_low", "meteor_high", "reference_words"]), index=False)
