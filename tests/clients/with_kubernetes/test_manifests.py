"""Every manifest of deploy/ and every object that the controller's golden plans apply, against the schemas of Kubernetes 1.37."""

import functools
import pathlib

import jsonschema
import kubernetes_validate
import pytest
import yaml

# Reading the definitions anew for each object would take nine tenths of the time.
kubernetes_validate.utils.schema_contents = functools.lru_cache(kubernetes_validate.utils.schema_contents)

ROOT = pathlib.Path(__file__).parents[3]
VERSION = "1.37"
GOLDEN = ROOT / "controller" / "tests" / "golden"
# Ours, the Gateway's and KEDA's; only the first have a schema here.
CUSTOM = ("serving.kserve.io/", "gateway.networking.k8s.io/", "keda.sh/", "kustomize.config.k8s.io/")
# These ask for what the API server shall refuse, which is for it to say.
REFUSED = {"unknown_fields"}


def documents(path: pathlib.Path) -> list[dict]:
    """The objects of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@functools.cache
def schemas() -> dict[str, dict]:
    """The schemas of the custom resources, by kind."""
    definitions = documents(ROOT / "deploy/crds/crds.yaml")
    return {
        definition["spec"]["names"]["kind"]: definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for definition in definitions
    }


DEPLOYED = sorted((ROOT / "deploy").rglob("*.yaml"))
CASES = sorted(GOLDEN.glob("*.yaml"))
GRAPHS = sorted((GOLDEN / "graphs").glob("*.yaml"))


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_manifest_fits_its_schema_and_has_no_unknown_field(path: pathlib.Path):
    for document in documents(path):
        if document["apiVersion"].startswith(CUSTOM):
            if document["kind"] in schemas():
                jsonschema.validate(document, schemas()[document["kind"]])
        else:
            kubernetes_validate.validate(document, VERSION, strict=True)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_what_people_write_fits_the_definitions_as_far_as_the_plan_takes_it(case: pathlib.Path):
    fits = jsonschema.Draft202012Validator
    for document in documents(case):
        if document.get("kind") not in schemas():
            continue
        faults = list(fits(schemas()[document["kind"]]).iter_errors(document))
        if faults:
            # Then the plan must refuse it too.
            assert "InvalidSpec" in case.with_suffix(".out").read_text(), faults


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_what_the_controller_applies_fits_the_schemas_strictly(case: pathlib.Path):
    if case.stem == "runtimes":
        return
    for step in documents(case.with_suffix(".out")):
        for child in step["applied"]:
            if child["apiVersion"].startswith(CUSTOM) or case.stem in REFUSED:
                continue
            # What a revision keeps is left out of the files: it is the template of its Deployment.
            kept = {"data": {}} if child["kind"] == "ControllerRevision" else {}
            kubernetes_validate.validate(child | kept, VERSION, strict=True)
        status = {"apiVersion": "v1", "kind": "InferenceService", "metadata": {}, "spec": {"predictor": {}}}
        jsonschema.validate(status | {"status": step["status"]}, schemas()["InferenceService"])


@pytest.mark.parametrize("case", GRAPHS, ids=lambda path: path.stem)
def test_graphs_and_what_is_applied_for_them_fit_the_schemas(case: pathlib.Path):
    fits = jsonschema.Draft202012Validator(schemas()["InferenceGraph"])
    graphs = [document for document in documents(case) if document.get("kind") == "InferenceGraph"]
    for graph in graphs:
        faults = list(fits.iter_errors(graph))
        assert not faults or "InvalidGraph" in case.with_suffix(".out").read_text(), faults
    for step in documents(case.with_suffix(".out")):
        for child in step["applied"]:
            if not child["apiVersion"].startswith(CUSTOM):
                kubernetes_validate.validate(child, VERSION, strict=True)
        fits.validate(graphs[0] | {"status": step["status"]})
