#!/usr/bin/env python3
"""Golden values of the paired tests: NumPy 2.4, SciPy 1.17, statsmodels 0.15, arch 8.0.

    python3 tests/reference/statistics.py        writes tests/golden/statistics/values.json

- `paired`: two scores of the same items. Interval and probability by the symmetric studentized bootstrap (Hall 1988) over
  200,000 resamples of arch's IIDBootstrap, for fewer than 6 items by scipy.stats.ttest_rel; beside it the probability of scipy.stats.permutation_test
  (permutation_type="samples": signs of the differences), which is another test of the same question.
- `sets`: features of two strategies and of style pictures. The difference of FID with scipy.linalg.sqrtm, and the
  probability by permutation: for each photo it is drawn anew which picture is whose, and FID is computed as it is.
- `holm`: statsmodels.stats.multitest.multipletests(method="holm").
- `spearman`: scipy.stats.spearmanr.
"""
import json
from pathlib import Path

import numpy as np
from arch.bootstrap import IIDBootstrap
from scipy import linalg, stats
from statsmodels.stats.multitest import multipletests

OUT = Path(__file__).parent.parent / "golden" / "statistics"


def paired(rng, n, shift, skewed):
    common = rng.normal(size=n)
    noise = rng.exponential(size=n) - 1 if skewed else rng.normal(size=n)
    first, second = np.round(common + noise + shift, 6), np.round(common + 0.3 * rng.normal(size=n), 6)
    d = first - second
    case = {"first": first.tolist(), "second": second.tolist(), "difference": d.mean()}
    test = stats.ttest_rel(first, second)
    if n < 6:
        case["interval"] = list(test.confidence_interval(0.95))
        case["p_value"] = test.pvalue
    else:
        error = lambda x: x.std() / np.sqrt(len(x))
        bootstrap = IIDBootstrap(d, seed=np.random.default_rng(0))
        means, errors = bootstrap.apply(lambda x: np.array([x.mean(), error(x)]), 200_000).T
        kept = errors > 1e-6 * error(d)
        sizes = np.abs(means - d.mean())[kept] / errors[kept]
        half = np.quantile(sizes, 0.95) * error(d)
        case["interval"] = [d.mean() - half, d.mean() + half]
        case["p_value"] = (sizes >= abs(d.mean()) / error(d)).mean()
    mean = lambda x, axis: x.mean(axis=axis)
    signs = stats.permutation_test(
        (d,), mean, permutation_type="samples", vectorized=True, n_resamples=100_000, rng=np.random.default_rng(0)
    )
    case["permutation_p"] = signs.pvalue
    return case


def fid(a, s):
    root = linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(s, rowvar=False)).real
    return ((a.mean(0) - s.mean(0)) ** 2).sum() + np.trace(np.cov(a, rowvar=False) + np.cov(s, rowvar=False) - 2 * root)


def sets(rng, n, m, d, shift):
    scale = np.linspace(1, 0.2, d)
    photos = rng.normal(size=(n, d))
    draw = lambda by: np.round((0.7 * photos + 0.7 * rng.normal(size=(n, d))) * scale + by, 5)
    style = np.round(rng.normal(size=(m, d)) * scale, 5)
    first, second = draw(0.4 + shift), draw(0.4)
    found = fid(first, style) - fid(second, style)
    swaps = 3000
    more = 0
    for _ in range(swaps):
        swap = (rng.random(n) < 0.5)[:, None]
        a, b = np.where(swap, second, first), np.where(swap, first, second)
        more += abs(fid(a, style) - fid(b, style)) >= abs(found)
    flat = lambda x: x.ravel().tolist()
    return {
        "features": d,
        "first": flat(first),
        "second": flat(second),
        "style": flat(style),
        "difference": found,
        "permutation_p": (more + 1) / (swaps + 1),
    }


def main():
    rng = np.random.default_rng(16)
    cases = [(2, 0.5, False), (3, 1, False), (4, 1, False), (5, 0.3, False), (8, 0.5, False), (24, 0.3, False)]
    cases += [(24, 0.0, False), (40, 0.5, True), (100, 0.15, False), (100, 0.0, True)]
    p_values = [0.01, 0.04, 0.03, 0.005, 0.04, 0.9, 0.6, 0.01]
    a = np.round(rng.normal(size=30), 1)
    b = np.round(0.5 * a + rng.normal(size=30), 1)
    few = [3.0, 1.0, 2.0, 2.0], [10.0, 30.0, 20.0, 25.0]
    values = {
        "paired": [paired(rng, *case) for case in cases],
        "sets": [sets(rng, 24, 20, 6, 0.0), sets(rng, 24, 20, 6, 0.06), sets(rng, 30, 12, 8, 0.25)],
        "holm": {"p_values": p_values, "corrected": multipletests(p_values, method="holm")[1].tolist()},
        "spearman": [
            {"a": list(x), "b": list(y), "value": stats.spearmanr(x, y).statistic} for x, y in [(a, b), (-a, b), few]
        ],
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "values.json").write_text(json.dumps(values) + "\n")
    for case in values["paired"] + values["sets"]:
        print({key: value for key, value in case.items() if key not in ("first", "second", "style")})


if __name__ == "__main__":
    main()
