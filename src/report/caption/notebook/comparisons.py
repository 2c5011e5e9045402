shown = ["dataset", "first", "second", "metric"]
comparisons = read("comparisons.csv", shown, ["difference", "low", "high", "p_value", "p_holm"])
show(comparisons[comparisons.metric.isin(@COMPARED@)], index=False)
