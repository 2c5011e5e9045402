def by_score(shown, count):
    """The best and the worst scores; nothing where nothing was measured."""
    shown = shown.dropna(subset="lpips")
    score = "gallery_score" if shown.gallery_score.notna().all() else "lpips"
    shown = shown.sort_values([score, "id", "seed"])
    best = shown.head(min(count, (len(shown) + 1) // 2))
    worst = shown.iloc[len(best):].tail(count).iloc[::-1]
    return best.assign(case="best"), worst.assign(case="worst")


def cases(strategy, count=5):
    """The two ends of a strategy, each picture beside its photo."""
    shown = items[(items.strategy == strategy) & (items.status != "failed") & (items.image != "")]
    best, worst = @CHOOSE@by_score(shown, count)
    chosen = [part for part in (best, worst) if len(part)]
    if not chosen:
        return print("No picture of this strategy was measured.")
    columns = ["case", "id", "lpips", "style_distance", "gallery_score"] + PHOTO + ["caption", "prompt", "dropped"]
    display(show(pd.concat(chosen)[columns], index=False))
    figure, axes = plt.subplots(2, 2 * count, figsize=(12, 3), squeeze=False)
    for spot in axes.flat:
        spot.axis("off")
    for line, rows in enumerate([best, worst]):
        for at, row in enumerate(rows.itertuples()):
            axes[line, 2 * at].set_title(row.id, loc="left", fontsize=8)
            for side, file in enumerate([row.photo, row.image]):
                if inside(file):
                    axes[line, 2 * at + side].imshow(plt.imread(inside(file)))
    said = [f"{row.case} {row.id}: {row.prompt}" for part in chosen for row in part.itertuples()]
    picture(figure, f"{strategy}. " + "; ".join(said))
