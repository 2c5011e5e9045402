shown = ["dataset", "first", "second", "metric"]
comparisons = read("comparisons.csv", shown, ["difference", "low", "high", "p_value"])
show(comparisons[comparisons.metric.isin(@COMPARED@)], index=False)
