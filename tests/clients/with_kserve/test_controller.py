"""The controller under KServe's own client, unmodified, with real servers behind: from a manifest to predictions, through a canary."""

import collections
import json
import math
import threading
from collections.abc import Iterator

import httpx
import kserve
import pytest
from kserve import KServeClient
from kubernetes.client import V1ObjectMeta

import samples
from cluster import NAMESPACE, Cluster

EXAMPLE = json.loads((samples.MODELS / "iris" / "example.json").read_text())
REQUESTS = 400
# Far more than what the router takes to see new weights.
WINDOWS_MAX = 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    started = Cluster(samples.MODELS)
    yield started
    started.stop()


def service(name: str, place: str, **predictor) -> kserve.V1beta1InferenceService:
    """As the SDK's users write it."""
    model_format = kserve.V1beta1ModelFormat(name="onnx")
    model = kserve.V1beta1ModelSpec(model_format=model_format, storage_uri=f"pvc://models/{place}")
    metadata = V1ObjectMeta(name=name, namespace=NAMESPACE, annotations={"tensorgate.dev/router": "true"})
    return kserve.V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=metadata,
        spec=kserve.V1beta1InferenceServiceSpec(predictor=kserve.V1beta1PredictorSpec(model=model, **predictor)),
    )


def change(client: KServeClient, name: str, place: str, **predictor) -> int:
    """Replaces the object; gives its new generation."""
    return client.replace(name, service(name, place, **predictor), namespace=NAMESPACE)["metadata"]["generation"]


def infer(cluster: Cluster, client: httpx.Client) -> httpx.Response:
    return client.post(f"{cluster.url('iris-predictor')}/v2/models/iris/infer", json=EXAMPLE, timeout=60)


def shares(cluster: Cluster, expected: dict[str, float]) -> None:
    """Counts until the split is that. The router looks at its file every two seconds, so that the first counts may be of the
    weights before."""
    with httpx.Client() as client:
        for _ in range(WINDOWS_MAX):
            seen = collections.Counter()
            for _ in range(REQUESTS):
                answer = infer(cluster, client)
                assert answer.status_code == 200, answer.text
                seen[answer.headers["x-tensorgate-revision"]] += 1
            if seen.keys() <= expected.keys() and all(fits(seen[name], share) for name, share in expected.items()):
                return
    raise AssertionError((seen, expected))


def fits(count: int, share: float) -> bool:
    """Within five standard deviations."""
    return abs(count - REQUESTS * share) <= 5 * math.sqrt(REQUESTS * share * (1 - share)) + 1


def until_routed(cluster: Cluster, weights: dict[str, int]) -> None:
    """The routes that the router reads have these weights."""
    routes = cluster.folder / "iris-predictor-router.json"
    of = lambda: {own["revision"]: own["weight"] for own in json.loads(routes.read_text())["backends"]}
    cluster.wait(f"{weights}", lambda: routes.exists() and of() == weights)


def test_a_service_goes_through_a_canary_and_back_while_nobody_loses_a_request(cluster: Cluster):
    client = KServeClient(config_file=cluster.kubeconfig)
    client.create(service("iris", "iris/1"))
    client.wait_isvc_ready("iris", namespace=NAMESPACE, timeout_seconds=60, polling_interval=1)
    assert client.is_isvc_ready("iris", namespace=NAMESPACE)
    assert client.get("iris", namespace=NAMESPACE)["status"]["url"] == "http://iris-predictor.models.svc.cluster.local"
    cluster.wait("the router", lambda: cluster.url("iris-predictor") in cluster.routers.values())

    failures, stop = [], threading.Event()

    def storm() -> None:
        with httpx.Client() as own:
            while not stop.is_set():
                answer = infer(cluster, own)
                if answer.status_code != 200:
                    failures.append(answer.text)

    callers = [threading.Thread(target=storm) for _ in range(2)]
    for caller in callers:
        caller.start()
    old, new = "iris-predictor-00001", "iris-predictor-00002"
    try:
        for percent in (0, 10, 50):
            change(client, "iris", "iris/2", canary_traffic_percent=percent)
            wanted = {new: percent, old: 100 - percent} if percent else {old: 100}
            until_routed(cluster, wanted)
        shares(cluster, {new: 0.5, old: 0.5})
        change(client, "iris", "iris/2", canary_traffic_percent=0)
        until_routed(cluster, {old: 100})
        change(client, "iris", "iris/2")
        until_routed(cluster, {new: 100})
        shares(cluster, {new: 1.0})
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert failures == []
    status = client.get("iris", namespace=NAMESPACE)["status"]["components"]["predictor"]
    assert (status["latestRolledoutRevision"], status["previousRolledoutRevision"]) == (new, old)


def test_what_cannot_serve_gets_no_request_and_says_why(cluster: Cluster):
    client = KServeClient(config_file=cluster.kubeconfig)
    status = lambda: client.get("iris", namespace=NAMESPACE)["status"]
    change(client, "iris", "no-such-model")
    third = "iris-predictor-00003"
    created = lambda: status()["components"]["predictor"]["latestCreatedRevision"] == third and third in cluster.servers
    cluster.wait("the third revision", created)
    failure = lambda: status()["modelStatus"].get("lastFailureInfo") or {}
    cluster.wait("the failure", lambda: failure().get("reason") == "ModelLoadFailed")
    assert "no-such-model" in failure()["message"]
    assert status()["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad"

    now = service("iris", "iris/2")
    now.spec.predictor.model.args = ["--slo=never"]
    client.replace("iris", now, namespace=NAMESPACE)
    cluster.wait("the other failure", lambda: "--slo" in failure().get("message", ""))
    with httpx.Client() as own:
        assert infer(cluster, own).status_code == 200
    assert not client.is_isvc_ready("iris", namespace=NAMESPACE)

    client.delete("iris", namespace=NAMESPACE)
    cluster.wait("its servers to end", lambda: not cluster.servers)
