"""Churn: will a subscriber leave? Words and numbers, each its own input, encoded inside the graph."""

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from export import About, from_sklearn, publish

WORDS = {
    "plan": ["basic", "standard", "premium"],
    "region": ["north", "south", "east", "west"],
    "payment": ["card", "invoice", "transfer"],
}
NUMBERS = ["tenure_months", "monthly_spend", "support_calls"]
# What the generated subscribers' log-odds of leaving gain by each word.
EFFECTS = {"basic": 0.7, "premium": -0.6, "south": 0.3, "invoice": 0.9, "transfer": 0.4}


def generate(rng: np.random.Generator, rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Subscribers, one column per input, and 1 for those who left, 0 for those who stayed, [rows]."""
    table = pd.DataFrame({name: rng.choice(words, rows).astype(object) for name, words in WORDS.items()})
    table["tenure_months"] = rng.exponential(24, rows).round().astype(np.float32)
    spend = table["plan"].map({"basic": 12, "standard": 25, "premium": 48}) * rng.lognormal(0, 0.25, rows)
    table["monthly_spend"] = spend.round(2).astype(np.float32)
    table["support_calls"] = rng.poisson(0.8, rows).astype(np.float32)

    log_odds = sum(table[name].map(lambda word: EFFECTS.get(word, 0.0)) for name in WORDS)
    log_odds += -1.2 - 0.05 * table["tenure_months"] + 0.015 * table["monthly_spend"] + 0.7 * table["support_calls"]
    left = rng.random(rows) < 1 / (1 + np.exp(-log_odds))
    return table, left.to_numpy().astype(np.int64)


def main() -> None:
    rng = np.random.default_rng(0)
    table, left = generate(rng, 10_000)
    held_table, held_left = generate(rng, 4_000)
    # Unknown words count as no word at all, so a new region is served and not refused.
    columns = ColumnTransformer(
        [("words", OneHotEncoder(handle_unknown="ignore"), list(WORDS)), ("numbers", StandardScaler(), NUMBERS)]
    )
    pipeline = make_pipeline(columns, LogisticRegression()).fit(table, left)

    auc = roc_auc_score(held_left, pipeline.predict_proba(held_table)[:, 1])
    about = About(
        use="strings and numbers, one input per column",
        data="generated: subscribers",
        metric=f"accuracy {pipeline.score(held_table, held_left):.1%} "
        f"(always stays: {1 - held_left.mean():.1%}); ROC AUC {auc:.2f}",
    )
    model = from_sklearn(
        pipeline,
        inputs=dict.fromkeys(WORDS, "BYTES:1") | dict.fromkeys(NUMBERS, "FP32:1"),
        outputs={"label": [], "probabilities": [2]},
    )
    example = {name: held_table[name].to_numpy()[:2, np.newaxis] for name in held_table}
    publish(__file__, model, about, example)
    print("example's true labels:", held_left[:2])


if __name__ == "__main__":
    main()
