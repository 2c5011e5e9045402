ratings = read("ratings.csv", ["rater", "id", "strategy", "rating", "reason"], [])
ratings = ratings.drop_duplicates(["rater", "id", "strategy"], keep="last")
ratings = ratings.merge(items[["id", "strategy"]].drop_duplicates(), on=["id", "strategy"])  # of this run
success = (ratings.rating == "success").groupby([ratings.id, ratings.strategy]).agg(share="mean", raters="size")


def by_people(shown, count):
    """What most raters call a success or a failure; None where no one rated."""
    rated = shown.join(success, on=["id", "strategy"], how="inner")
    rated = rated.assign(score=rated.gallery_score.fillna(float("inf")))
    keys = ["share", "raters", "score", "id", "seed"]
    good = rated[rated.share > 0.5].sort_values(keys, ascending=[False, False, True, True, True]).head(count)
    bad = rated[rated.share < 0.5].sort_values(keys, ascending=[True, False, False, False, False]).head(count)
    return None if rated.empty else (good.assign(case="success"), bad.assign(case="failure"))


def wilson(share, n, z=1.959963984540054):
    """The 95 % score interval of a share (Wilson 1927)."""
    middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)) ** 0.5
    return (middle - half).clip(lower=0), (middle + half).clip(upper=1)


rates = success.groupby("strategy").share.agg(rated="size", success="mean")
rates = rates.reindex(results.strategy).dropna().astype({"rated": int})
rates["low"], rates["high"] = wilson(rates.success, rates.rated)
show(rates.reset_index(), index=False)
