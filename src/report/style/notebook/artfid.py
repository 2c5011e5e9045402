shown = results.dropna(subset="artfid").iloc[::-1]
figure, axes = plt.subplots(figsize=(8, 1.2 + 0.5 * len(shown)))
axes.barh(shown.strategy, shown.artfid, color=shown.strategy.map(COLORS), alpha=0.85)
low, high = shown.artfid_low.fillna(shown.artfid), shown.artfid_high.fillna(shown.artfid)
axes.hlines(shown.strategy, low, high, color="black")
axes.set_xlabel("ArtFID, 95 % interval (lower is better)")
plt.tight_layout()
plt.show()
