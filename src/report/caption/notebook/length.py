ALT = @ALT@
datasets = list(dict.fromkeys(results.dataset))
figure, panels = plt.subplots(len(datasets), 2, figsize=(8, 3 * len(datasets)), squeeze=False)
for line, dataset in zip(panels, datasets):
    for axes, metric in zip(line, @AGAINST_LENGTH@):
        for model in models:
            own = items[(items.dataset == dataset) & (items.model == model)]
            axes.scatter(own.words, own[metric], 8, color=COLORS[model], alpha=0.5, label=model)
        people = results.reference_words[results.dataset == dataset].dropna()
        if len(people):
            axes.axvline(people.iloc[0], color="black", linestyle="--")
        axes.set_title(f"{dataset}: {metric.upper()} of each caption", loc="left", fontsize=9)
        axes.set_xlabel("words")
panels[0, 0].legend(fontsize=7)
plt.tight_layout()
picture(figure, ALT)
