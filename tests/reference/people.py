#!/usr/bin/env python3
"""Golden values of what people said, from statsmodels, scikit-learn and SciPy.

    pip install numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0 scikit-learn==1.9.1
    python3 tests/reference/people.py                  writes tests/golden/people/values.json

Wilson intervals: statsmodels' proportion_confint. Bradley-Terry: a logistic regression without intercept on which two were
compared (statsmodels' GLM, one strategy as the reference), a tie as half a win for each. Kappa: scikit-learn and
statsmodels. Spearman: SciPy; Holm: statsmodels' multipletests.
"""
import json
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

OUT = Path(__file__).parent.parent / "golden" / "people"
random = np.random.default_rng(17)


def wilson():
    cases = [(0, 5), (5, 5), (3, 10), (50, 100), (1, 1000), (2.5, 7)]
    return [{"successes": k, "n": n, "interval": list(proportion_confint(k, n, method="wilson"))} for k, n in cases]


def bradley_terry(n, votes, ties):
    true = np.linspace(-1, 1, n)
    wins = np.zeros((n, n))
    for _ in range(votes):
        i, j = random.choice(n, 2, replace=False)
        if random.random() < ties:
            wins[i, j] += 0.5
            wins[j, i] += 0.5
        elif random.random() < 1 / (1 + np.exp(true[j] - true[i])):
            wins[i, j] += 1
        else:
            wins[j, i] += 1
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n) if wins[i, j] + wins[j, i] > 0]
    design = np.zeros((len(pairs), n))
    for row, (i, j) in enumerate(pairs):
        design[row, i], design[row, j] = 1, -1
    totals = np.array([wins[i, j] + wins[j, i] for i, j in pairs])
    shares = np.array([wins[i, j] for i, j in pairs]) / totals
    # The last one is the reference.
    model = sm.GLM(shares, design[:, :-1], family=sm.families.Binomial(), var_weights=totals).fit(tol=1e-14, maxiter=200)
    values = np.append(model.params, 0)
    covariance = np.zeros((n, n))
    covariance[:-1, :-1] = model.cov_params()
    centre = np.eye(n) - 1 / n
    differences = []
    for i, j in pairs:
        contrast = np.zeros(n)
        contrast[i], contrast[j] = 1, -1
        test = model.t_test(contrast[:-1])
        low, high = test.conf_int()[0]
        differences.append({"i": i, "j": j, "value": float(test.effect[0]), "low": low, "high": high,
                            "p_value": float(test.pvalue)})
    return {
        "wins": wins.tolist(),
        "values": (centre @ values).tolist(),
        "covariance": (centre @ covariance @ centre.T).tolist(),
        "differences": differences,
    }


def agreement():
    a = random.integers(0, 3, 60)
    b = np.where(random.random(60) < 0.6, a, random.integers(0, 3, 60))
    tables = []
    for things, raters in [(12, 3), (30, 5)]:
        ratings = np.array([[random.multinomial(1, [0.7, 0.2, 0.1]) for _ in range(raters)] for _ in range(things)])
        tables.append(ratings.sum(axis=1))
    return {
        "cohen": {"pairs": [[int(x), int(y)] for x, y in zip(a, b)], "kappa": cohen_kappa_score(a, b)},
        "fleiss": [{"rows": t.tolist(), "kappa": fleiss_kappa(t, method="fleiss")} for t in tables],
    }


def correlations():
    cases = []
    for n, noise in [(8, 0.3), (40, 1.0), (200, 3.0)]:
        x = random.normal(size=n)
        # Shares of raters: many are equal.
        y = np.round(3 / (1 + np.exp(-x - noise * random.normal(size=n)))) / 3
        cases.append({"pairs": [[float(p), float(q)] for p, q in zip(x, y)], "rho": spearmanr(x, y).statistic})
    return cases


def holm():
    p = random.random(9) ** 3
    return {"p_values": p.tolist(), "corrected": multipletests(p, method="holm")[1].tolist()}


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    values = {
        "wilson": wilson(),
        "bradley_terry": [bradley_terry(3, 120, 0.2), bradley_terry(6, 400, 0.1), bradley_terry(2, 30, 0.0)],
        "agreement": agreement(),
        "spearman": correlations(),
        "holm": holm(),
    }
    (OUT / "values.json").write_text(json.dumps(values, indent=1, default=float) + "\n")
