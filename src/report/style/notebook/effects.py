def holm(values):
    """Probabilities after Holm's correction over all of them (Holm 1979)."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    corrected, largest = [0.0] * len(values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(values[at] * (len(values) - rank), 1.0))
        corrected[at] = largest
    return corrected


effects = read("effects.csv", ["axis", "value", "metric"], ["n", "mean", "low", "high", "p_value"])
effects = effects[effects.metric == "@DECIDING@"].drop(columns="metric").reset_index(drop=True)
of_two = effects.groupby("axis").value.transform("size") == 2
tests = effects[~(of_two & effects.axis.duplicated())]  # of two values each differs from the other by one test
effects.loc[tests.index, "p_holm"] = holm(list(tests.p_value))
effects["p_holm"] = effects.p_holm.fillna(effects.groupby("axis").p_holm.transform("first"))
show(effects, index=False)
