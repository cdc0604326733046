"""all-MiniLM-L6-v2, as `make run` serves it and as a graph, and models with tokenizers out of tests/fixtures/text."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from samples import MODELS
from server import ROOT, Server

FIXTURES = ROOT / "tests/fixtures/text"
EXPECTED = Path(__file__).parent / "expected.json"


@pytest.fixture(scope="session")
def sentences(fetched_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    others = tmp_path_factory.mktemp("sentences")
    graphs = tmp_path_factory.mktemp("graphs")
    subprocess.run([sys.executable, MODELS / "_train/minilm.py", "--graph", graphs], check=True)
    (others / "minilm-onnx").symlink_to(graphs / "minilm-onnx")
    for fixture in ("classifier", "ranker", "tagger"):
        (others / fixture).symlink_to(FIXTURES / fixture)
    server = Server(fetched_models, others)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def expected() -> list[dict]:
    """Sentences with what sentence-transformers makes of them."""
    return json.loads(EXPECTED.read_text())
