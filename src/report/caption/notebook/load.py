TEXT = ["id", "dataset", "model", "caption", "status", "error", "image"]
items = read("items.csv", TEXT, ["words", "bleu", "rouge1", "meteor", "cider"])
SCORES = ["bleu", "bleu_low", "bleu_high", "rouge1", "rouge2", "meteor", "meteor_low", "meteor_high", "cider"]
results = read("results.csv", ["dataset", "model"], ["n", *SCORES, "words", "reference_words", "images_per_second"])
models = list(COLORS)
