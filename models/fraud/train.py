"""Card fraud: a random forest on generated transactions, of which one in a hundred is fraud."""

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from export import About, from_sklearn, publish
from transactions import FEATURES, generate


def recall_at(precision: float, truth: np.ndarray, score: np.ndarray) -> float:
    """The largest share of frauds found by a threshold at which `precision` of the alarms are right."""
    precisions, recalls, _ = precision_recall_curve(truth, score)
    return recalls[precisions >= precision].max()


def main() -> None:
    rng = np.random.default_rng(0)
    features, fraud = generate(rng, 60_000)
    held_features, held_fraud = generate(rng, 30_000)
    forest = RandomForestClassifier(n_estimators=60, max_depth=10, min_samples_leaf=5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), forest).fit(features, fraud)

    score = pipeline.predict_proba(held_features)[:, 1]
    about = About(
        use="imbalanced tabular classification (random forest)",
        data="generated: card transactions",
        metric=f"average precision {average_precision_score(held_fraud, score):.2f} (chance: {held_fraud.mean():.2f}); "
        f"finds {recall_at(0.9, held_fraud, score):.0%} of frauds with 9 of 10 alarms right",
    )
    model = from_sklearn(
        pipeline,
        inputs={"features": f"FP32:{len(FEATURES)}"},
        outputs={"label": [], "probabilities": [2]},
    )
    surest = np.argsort(score)[[-1, 0]]  # the likeliest fraud and the likeliest honest transaction
    publish(__file__, model, about, {"features": held_features[surest]})
    print("example's true labels:", held_fraud[surest])


if __name__ == "__main__":
    main()
