ALT = @ALT@
shown = results.dropna(subset=["fid", "lpips"]).sort_values(["lpips", "fid"], kind="stable")


def beaten(row):
    """Whether another strategy is nowhere worse and somewhere better."""
    others = shown[(shown.lpips <= row.lpips) & (shown.fid <= row.fid)]
    return bool(((others.lpips < row.lpips) | (others.fid < row.fid)).any())


shown["beaten"] = [beaten(row) for row in shown.itertuples()]
figure, axes = plt.subplots(figsize=(8, 5.5))
for row in shown.itertuples():
    color = COLORS[row.strategy]
    axes.hlines(row.fid, row.lpips_low, row.lpips_high, color=color, alpha=0.35)
    axes.vlines(row.lpips, row.fid_low, row.fid_high, color=color, alpha=0.35)
    axes.scatter(row.lpips, row.fid, s=50, edgecolors=color, facecolors="white" if row.beaten else color, zorder=3)
    axes.annotate(row.strategy, (row.lpips, row.fid), xytext=(7, -4), textcoords="offset points")
axes.plot(shown.lpips[~shown.beaten], shown.fid[~shown.beaten], color="black", linewidth=1)
axes.set_xlabel("LPIPS (distance from the photo)")
axes.set_ylabel("FID (distance from the style pictures)")
axes.margins(0.2)
picture(figure, ALT)
