"""Makes tests/golden/gallery: rows of a run and the gallery scores that NumPy gives them.

    pip install numpy==2.4.1
    python tests/reference/gallery.py tests/golden/gallery

The rule: LPIPS and the distance of a picture's feature from the mean of the style features, each
standardised over all measured pictures of the run, added; the five smallest scores of a strategy are
its successes, the five largest of the others its failures, the worst first.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(20)
    style = random.normal(0.4, 0.2, (17, 64))
    rows = []
    for at, strategy in enumerate(["ink__t2i", "ink__i2i0.4", "oil__i2i0.4"]):
        for photo in range(9 if strategy.startswith("oil") else 14):
            feature = random.normal(0.4 + 0.1 * at, 0.3, 64)
            rows.append({
                "id": f"p{photo:02}",
                "strategy": strategy,
                "lpips": float(random.uniform(0.2, 0.9) + 0.05 * at),
                "style_distance": float(np.linalg.norm(feature - style.mean(axis=0))),
                "status": "done",
                "image": f"images/{strategy}/p{photo:02}.png",
            })
    # Equal scores, a failed picture and one that could not be measured.
    rows[3]["lpips"], rows[3]["style_distance"] = rows[5]["lpips"], rows[5]["style_distance"]
    rows[7]["status"] = "failed"
    rows[20]["lpips"], rows[20]["status"] = "", "failed"
    measured = [row for row in rows if row["status"] == "done"]
    values = np.array([[row["lpips"], row["style_distance"]] for row in measured])
    scores = ((values - values.mean(axis=0)) / values.std(axis=0)).sum(axis=1)
    expected = {}
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        own = [(score, row["id"]) for score, row in zip(scores.tolist(), measured) if row["strategy"] == strategy]
        own.sort()
        best = own[: min(5, (len(own) + 1) // 2)]
        worst = own[len(best) :][::-1][:5]
        expected[strategy] = {
            "scores": {name: score for score, name in own},
            "successes": [name for _, name in best],
            "failures": [name for _, name in worst],
        }
    with open(folder / "items.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


main(Path(sys.argv[1]))
