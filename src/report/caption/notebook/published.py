PUBLISHED = @PUBLISHED@
lines = []
for row in results.to_dict("records"):
    for line in PUBLISHED:
        if row["dataset"] == line["dataset"] and row["model"].split("__")[0] == line["model"]:
            values = {"dataset": row["dataset"], "model": row["model"]}
            for metric in @HEADLINE@:
                values |= {metric: row[metric], f"{metric}_published": line[metric]}
            lines.append(values)
show(pd.DataFrame(lines), index=False)
