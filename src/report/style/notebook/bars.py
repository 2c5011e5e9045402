ALT = @ALT@
shown = results.dropna(subset="@NAME@")@SORTED@.iloc[::-1]
figure, axes = plt.subplots(figsize=(8, 1.2 + 0.5 * len(shown)))
axes.barh(shown.strategy, shown.@NAME@, color=shown.strategy.map(COLORS), alpha=0.85)
low, high = shown.@NAME@_low.fillna(shown.@NAME@), shown.@NAME@_high.fillna(shown.@NAME@)
axes.hlines(shown.strategy, low, high, color="black")
axes.set_xlabel("@LABEL@, 95 % interval (@BETTER@ is better)")
plt.tight_layout()
picture(figure, ALT)
