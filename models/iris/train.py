"""Fisher's irises, in two versions with one signature: what a canary roll-out needs.

Version 1 is a logistic regression; version 2 a linear discriminant analysis, which shares what it learns of the
features' covariance between the classes and so gets more out of 150 flowers. Both are measured by cross-validation,
since a single held-out set of 30 flowers could not tell them apart.
"""

import numpy as np
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from export import About, from_sklearn, publish

EXAMPLE = [0, 77, 149]  # a setosa, a versicolor that is easily taken for a virginica, a virginica


def main() -> None:
    flowers = load_iris()
    features = flowers.data.astype(np.float32)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=10, random_state=0)
    versions = [
        ("logistic regression", make_pipeline(LogisticRegression(max_iter=1000))),
        ("linear discriminant", make_pipeline(StandardScaler(), LinearDiscriminantAnalysis())),
    ]
    for version, (kind, pipeline) in enumerate(versions, start=1):
        accuracy = cross_val_score(pipeline, features, flowers.target, cv=folds).mean()
        about = About(
            use=f"tabular classification ({kind})",
            data="bundled: scikit-learn iris",
            metric=f"accuracy {accuracy:.1%} (10 x 5-fold cross-validation)",
        )
        model = from_sklearn(
            pipeline.fit(features, flowers.target),
            inputs={"features": "FP32:4"},
            outputs={"label": [], "probabilities": [3]},
        )
        publish(__file__, model, about, {"features": features[EXAMPLE]}, version, latest=version == len(versions))
    print("example's true labels:", flowers.target_names[flowers.target[EXAMPLE]])


if __name__ == "__main__":
    main()
