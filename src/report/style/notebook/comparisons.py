comparisons = read("comparisons.csv", ["metric", "first", "second"], ["n", "difference", "low", "high", "p_value", "p_holm"])
best = results.strategy.iloc[0]
show(comparisons[(comparisons["first"] == best) | (comparisons["second"] == best)], index=False)
