ALT = @ALT@
figure, axes = plt.subplots(figsize=(8, 5))
for row in results.dropna(subset=["fid", "lpips"]).itertuples():
    axes.scatter(row.lpips, row.fid, color=COLORS[row.strategy], s=50)
    axes.annotate(row.strategy, (row.lpips, row.fid), xytext=(7, -4), textcoords="offset points")
axes.set_xlabel("LPIPS (distance from the photo)")
axes.set_ylabel("FID (distance from the style pictures)")
axes.margins(0.2)
picture(figure, ALT)
