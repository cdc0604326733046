"""Every node of the ONNX standard that ONNX Runtime runs, through the server: loaded without a settings file by the
repository API, inferred through both doors, unloaded again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.utils import InferenceServerException

from doors import DOORS, Door, spoken
from gaps import GAPS, REFUSED, UNSPEAKABLE
from node_cases import Case, every, passing
from server import Server

SERVED = [case for case in passing() if case.name not in GAPS]
NOT_SERVED = [case for case in passing() if case.name in REFUSED]


class Stage:
    """A server of nodes and a connection to each of its doors."""

    def __init__(self, repository: Path):
        self._repository = repository
        self._server = Server(repository, "--model-control", "explicit")
        self.doors: list[Door] = [opened(self._server) for opened in DOORS.values()]
        self.control = self.doors[0].client

    def put(self, case: Case) -> None:
        """The case's model as a model of the repository, with nothing beside it."""
        version = self._repository / case.name / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(case.model)

    def take_away(self, case: Case) -> None:
        shutil.rmtree(self._repository / case.name)

    def stop(self) -> None:
        for door in self.doors:
            door.close()
        self._server.stop()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("nodes"))
    yield stage
    stage.stop()


@pytest.mark.parametrize("case", SERVED, ids=str)
def test_a_node_answers_as_the_standard_asks(stage: Stage, case: Case):
    stage.put(case)
    stage.control.load_model(case.name)
    for inputs, expected in case.data_sets:
        for door in stage.doors:
            case.check(expected, door.infer(case.name, inputs, expected))
    stage.control.unload_model(case.name)
    assert not stage.control.is_model_ready(case.name)
    stage.take_away(case)


@pytest.mark.parametrize("case", NOT_SERVED, ids=str)
def test_a_gap_is_refused_with_its_reason(stage: Stage, case: Case):
    """A gap that has closed fails here: take it off the list."""
    stage.put(case)
    with pytest.raises(InferenceServerException) as refusal:
        stage.control.load_model(case.name)
        for inputs, expected in case.data_sets:
            given = {name: array for name, array in inputs.items() if array is not None}
            stage.doors[0].infer(case.name, given, expected)
    assert REFUSED[case.name] in refusal.value.message()
    stage.control.unload_model(case.name)
    stage.take_away(case)


def test_these_are_the_cases_of_the_standard():
    assert len(every()) == 1884
    assert len(passing()) >= 1568
    values = [value for case in SERVED for data in case.data_sets for value in (*data[0].values(), *data[1].values())]
    shapes = [spoken(value).shape for value in values]
    assert sum(shape == () for shape in shapes) >= 100, "scalars"
    assert sum(0 in shape for shape in shapes) >= 20, "tensors without elements"


def test_nearly_all_that_onnx_runtime_passes_is_served():
    assert GAPS <= {case.name for case in passing()}, "gaps that are no cases, or that ONNX Runtime has too"
    assert len(SERVED) >= 0.99 * len(passing())


def test_what_is_not_served_has_no_form_in_v2():
    for case in passing():
        if case.name in UNSPEAKABLE:
            lists = [value for given, _ in case.data_sets for value in given.values() if isinstance(value, list)]
            assert any(len({array.shape for array in tensors}) != 1 for tensors in lists)
