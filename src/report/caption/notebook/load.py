TEXT = ["id", "dataset", "model", "caption", "status", "error", "image"]
items = read("items.csv", TEXT, @ITEM_SCORES@)
SCORES = @SCORES@
results = read("results.csv", ["dataset", "model"], ["n", *SCORES, "words", "reference_words", "images_per_second"])
models = list(COLORS)
