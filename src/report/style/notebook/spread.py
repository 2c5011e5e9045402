ALT = @ALT@
measured = items.dropna(subset="@NAME@")
order = [strategy for strategy in COLORS if strategy in set(measured.strategy)][::-1]
means = results.set_index("strategy").reindex(index=order, columns=["@NAME@", "@NAME@_low", "@NAME@_high"])
figure, axes = plt.subplots(figsize=(8, 1.2 + 0.5 * len(order)))
for at, strategy in enumerate(order):
    values = measured.@NAME@[measured.strategy == strategy]
    if values.nunique() > 1:
        (body,) = axes.violinplot([values], [at], orientation="horizontal", side="high", showextrema=False)["bodies"]
        body.set_color(COLORS[strategy])
    axes.plot(values, [at - 0.2] * len(values), "|", color=COLORS[strategy])
    axes.plot(values.median(), at, "o", color=COLORS[strategy])
    mean, low, high = means.loc[strategy]
    axes.hlines(at - 0.08, low, high, color="black")
    axes.plot(mean, at - 0.08, "D", color="black", markersize=4)
axes.set_yticks(range(len(order)), order)
axes.set_xlabel("@LABEL@ of each picture; dot: median; diamond: mean; line: its 95 % interval")
plt.tight_layout()
picture(figure, ALT)
