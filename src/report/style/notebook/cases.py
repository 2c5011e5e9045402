def cases(strategy, count=5):
    """The successes and failures of a strategy, each beside its photo."""
    shown = items[(items.strategy == strategy) & (items.status != "failed") & (items.image != "")]
    shown = shown.dropna(subset="lpips")
    if shown.empty:
        return print("No picture of this strategy was measured.")
    score = "gallery_score" if shown.gallery_score.notna().all() else "lpips"
    shown = shown.sort_values([score, "id", "seed"])
    best = shown.head(min(count, (len(shown) + 1) // 2))
    worst = shown.iloc[len(best):].tail(count).iloc[::-1]
    chosen = pd.concat([best.assign(case="success"), worst.assign(case="failure")])
    columns = ["case", "id", "lpips", "style_distance", "gallery_score"] + PHOTO + ["caption", "prompt", "dropped"]
    display(show(chosen[columns], index=False))
    figure, axes = plt.subplots(2, 2 * count, figsize=(12, 3), squeeze=False)
    for spot in axes.flat:
        spot.axis("off")
    for line, rows in enumerate([best, worst]):
        for at, row in enumerate(rows.itertuples()):
            axes[line, 2 * at].set_title(row.id, loc="left", fontsize=8)
            for side, file in enumerate([row.photo, row.image]):
                if inside(file):
                    axes[line, 2 * at + side].imshow(plt.imread(inside(file)))
    plt.show()
