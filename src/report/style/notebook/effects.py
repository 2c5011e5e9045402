effects = read("effects.csv", ["axis", "value", "metric"], ["n", "mean", "low", "high", "p_value"])
show(effects[effects.metric == "@DECIDING@"].drop(columns="metric"), index=False)
