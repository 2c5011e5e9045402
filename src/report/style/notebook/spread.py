ALT = @ALT@
measured = items.dropna(subset="@NAME@")
order = [strategy for strategy in COLORS if strategy in set(measured.strategy)][::-1]
figure, axes = plt.subplots(figsize=(8, 1.2 + 0.5 * len(order)))
for at, strategy in enumerate(order):
    values = measured.@NAME@[measured.strategy == strategy]
    if values.nunique() > 1:
        (body,) = axes.violinplot([values], [at], orientation="horizontal", side="high", showextrema=False)["bodies"]
        body.set_color(COLORS[strategy])
    axes.plot(values, [at - 0.15] * len(values), "|", color=COLORS[strategy])
    axes.plot(values.median(), at, "o", color=COLORS[strategy])
axes.set_yticks(range(len(order)), order)
axes.set_xlabel("@LABEL@ of each picture; dot: median")
plt.tight_layout()
picture(figure, ALT)
