ALT = @ALT@
LINES = @LINES@  # strategies that differ in strength alone, by rising strength, text-to-image last
figure, axes = plt.subplots(figsize=(8, 5.5))
for name, (color, strategies) in LINES.items():
    line = results.set_index("strategy").loc[strategies]
    axes.plot(line.lpips, line.fid, "o-", color=color, label=name)
    axes.hlines(line.fid, line.lpips_low, line.lpips_high, color=color, alpha=0.35)
    axes.vlines(line.lpips, line.fid_low, line.fid_high, color=color, alpha=0.35)
    for at in line.itertuples():
        said = "text" if pd.isna(at.strength) else f"{at.strength:g}"
        axes.annotate(said, (at.lpips, at.fid), xytext=(6, 4), textcoords="offset points")
axes.set_xlabel("LPIPS (distance from the photo)")
axes.set_ylabel("FID (distance from the style pictures)")
axes.legend()
picture(figure, ALT)
