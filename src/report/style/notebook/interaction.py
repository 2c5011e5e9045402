ALT = @ALT@
FACTORS = @FACTORS@
pairs = [(a, b) for at, a in enumerate(FACTORS) for b in list(FACTORS)[at + 1 :]]
figure, axes = plt.subplots(1, len(pairs), figsize=(4.5 * len(pairs), 3.5), squeeze=False)
for axis, (lines, along) in zip(axes[0], pairs):
    named = results.assign(lines=results.strategy.map(FACTORS[lines]), along=results.strategy.map(FACTORS[along]))
    for name, line in named.groupby("lines", sort=False):
        means = line.groupby("along", sort=False)["@DECIDING@"].mean()
        means = means.reindex([value for value in dict.fromkeys(FACTORS[along].values()) if value in means.index])
        axis.plot(means.index.astype(str), means, marker="o", label=name)
    axis.set_xlabel(along)
    axis.legend(title=lines)
axes[0][0].set_ylabel("mean @DECIDING@")
plt.tight_layout()
picture(figure, ALT)
