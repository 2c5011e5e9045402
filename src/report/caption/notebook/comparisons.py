shown = ["dataset", "first", "second", "metric"]
comparisons = read("comparisons.csv", shown, ["difference", "low", "high", "p_value"])
show(comparisons[comparisons.metric.isin(["bleu", "rouge1", "rouge2", "meteor", "cider"])], index=False)
