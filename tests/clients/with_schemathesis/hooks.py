"""Good requests for schemathesis, which invents only those that fit the document, not a model."""

import json
import os
from pathlib import Path

import schemathesis

BODIES = Path(os.environ["SCHEMATHESIS_BODIES"])  # {operation's id: [body, ...]}


@schemathesis.hook
def before_load_schema(context, raw_schema: dict) -> None:
    """Gives operations the examples that there are."""
    bodies = json.loads(BODIES.read_text())
    for path in raw_schema["paths"].values():
        for operation in path.values():
            for number, body in enumerate(bodies.get(operation["operationId"], [])):
                content = operation["requestBody"]["content"]["application/json"]
                content.setdefault("examples", {})[f"example-{number}"] = {"value": body}
