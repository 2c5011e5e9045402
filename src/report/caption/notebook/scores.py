ALT = @ALT@
metrics = @HEADLINE@
intervals = read("results.csv", ["dataset", "model"], [f"{name}{end}" for name in metrics for end in ["", "_low", "_high"]])
datasets = list(dict.fromkeys(results.dataset))
figure, panels = plt.subplots(len(datasets), 1, figsize=(8, 3 * len(datasets)), squeeze=False)
for axes, dataset in zip(panels.flat, datasets):
    for place, model in enumerate(models):
        for row in intervals[(intervals.dataset == dataset) & (intervals.model == model)].to_dict("records"):
            places = [at + (place + 0.5) * 0.8 / len(models) - 0.4 for at in range(len(metrics))]
            axes.bar(places, [row[name] for name in metrics], 0.72 / len(models), color=COLORS[model], label=model)
            axes.vlines(places, [row[f"{name}_low"] for name in metrics], [row[f"{name}_high"] for name in metrics], "black")
    axes.set_xticks(range(len(metrics)), @LABELS@)
    axes.set_title(dataset, loc="left")
panels[0, 0].legend()
plt.tight_layout()
picture(figure, ALT)
