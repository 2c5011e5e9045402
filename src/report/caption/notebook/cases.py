def cases(dataset, count=5):
    """Where the models differ most and the lowest scores, among the pictures that every model described."""
    own = items[(items.dataset == dataset) & (items.status == "done")].dropna(subset="@DECIDING@")
    own = own.sort_values("model", key=lambda names: names.map(models.index), kind="stable")
    expected = int((results.n[results.dataset == dataset] > 0).sum())
    said = {key: rows for key, rows in own.groupby("id") if len(rows) == expected}
    highest = {key: rows.@DECIDING@.max() for key, rows in said.items()}
    rank = {key: highest[key] - (rows.@DECIDING@.min() if expected > 1 else 0) for key, rows in said.items()}
    order = sorted(said, key=lambda key: (-rank[key], key))
    first = min(count, (len(order) + 1) // 2, sum(rank[key] > 0 for key in order))
    chosen = {"differ" if expected > 1 else "best": order[:first]}
    chosen["lowest"] = sorted(order[first:], key=lambda key: (highest[key], key))[:count]
    if not any(chosen.values()):
        return print("No picture of this data set was scored for every model.")
    file = inside(f"references/{dataset}.json")
    references = json.loads(file.read_text(encoding="utf-8")) if file else {}
    lines, numbers = [], @OF_CASES@
    for case, keys in chosen.items():
        for key in keys:
            for row in said[key].to_dict("records"):
                lines.append([case, key, row["model"], row["caption"], *(row[name] for name in numbers)])
            people = " / ".join(references.get(key, []))
            lines.append([case, key, "people", people, *[float("nan")] * len(numbers)])
    display(show(pd.DataFrame(lines, columns=["case", "id", "who", "caption", *numbers]), index=False))
    figure, axes = plt.subplots(2, count, figsize=(10, 4), squeeze=False)
    for spot in axes.flat:
        spot.axis("off")
    for line, (case, keys) in zip(axes, chosen.items()):
        for at, (spot, key) in enumerate(zip(line, keys)):
            spot.set_title(f"{case} {at + 1}: {key}", loc="left", fontsize=8)
            file = inside(said[key].image.iloc[0])
            if file:
                spot.imshow(plt.imread(file))
    told = [f"{case} {key}: {said[key].caption.iloc[0]}" for case, keys in chosen.items() for key in keys]
    picture(figure, f"{dataset}. " + "; ".join(told))
