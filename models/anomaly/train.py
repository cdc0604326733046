"""Anomalies among card transactions: an isolation forest, which never sees which of them were fraud.

`label` is -1 for an anomaly and 1 otherwise; `score` is below 0 for anomalies, and lower for stranger ones.
"""

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from export import About, from_sklearn, publish
from transactions import FEATURES, generate


def main() -> None:
    rng = np.random.default_rng(1)
    features, _ = generate(rng, 20_000)
    held_features, held_fraud = generate(rng, 30_000)
    forest = IsolationForest(n_estimators=50, max_samples=128, contamination=0.02, random_state=0).fit(features)

    score = forest.decision_function(held_features)
    about = About(
        use="anomaly detection (isolation forest)",
        data="generated: card transactions",
        metric=f"ROC AUC {roc_auc_score(held_fraud, -score):.2f} for fraud it never saw labelled (chance: 0.50)",
    )
    model = from_sklearn(
        forest,
        inputs={"features": f"FP32:{len(FEATURES)}"},
        outputs={"label": [1], "score": [1]},
    )
    extremes = np.argsort(score)[[0, -1]]  # the strangest and the most ordinary transaction
    publish(__file__, model, about, {"features": held_features[extremes]})


if __name__ == "__main__":
    main()
