"""Checks every version in the repository: its form, its answer to example.json, and that rows do not touch each other.

The last is what lets the server join requests into batches: a row's answer must be the same alone and in company.
"""

import json
import sys

import numpy as np

import catalog
import v2

TOTAL_MAX = 20_000_000  # bytes: the models are part of every clone of the repository
OPSETS, IR_VERSION_MAX = range(17, 22), 10  # what the runtimes behind the server are known to read


def form_faults(version: catalog.Version) -> list[str]:
    model, graph = version.model, version.model.graph
    faults = []
    opset = next(entry.version for entry in model.opset_import if entry.domain == catalog.STANDARD)
    if opset not in OPSETS:
        faults.append(f"opset {opset} is outside {OPSETS}")
    if model.ir_version > IR_VERSION_MAX:
        faults.append(f"ir_version {model.ir_version} is above {IR_VERSION_MAX}")
    faults += [
        f"first dimension is not batch: {catalog.signature(value)}"
        for value in (*graph.input, *graph.output)
        if catalog.dims(value)[:1] != ["batch"]
    ]
    return faults


def answer_faults(version: catalog.Version) -> list[str]:
    request = json.loads((version.home / "example.json").read_text())
    inputs = v2.arrays(request["inputs"])
    expected = v2.arrays(json.loads(version.expected.read_text()))
    faults = [f"example: {fault}" for fault in differences(expected, v2.run(version.path, inputs))]
    for row in range(len(next(iter(inputs.values())))):
        alone = v2.run(version.path, {name: array[row : row + 1] for name, array in inputs.items()})
        company = {name: array[row : row + 1] for name, array in expected.items()}
        faults += [f"row {row} alone: {fault}" for fault in differences(company, alone)]
    return faults


def differences(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> list[str]:
    """FP32 may differ in its last digits between machines; everything else must be equal."""
    if list(expected) != list(found):
        return [f"outputs {list(found)}, expected {list(expected)}"]
    faults = []
    for name, array in expected.items():
        if array.shape != found[name].shape or array.dtype != found[name].dtype:
            faults.append(f"{name} is {found[name].dtype} {found[name].shape}, expected {array.dtype} {array.shape}")
        elif array.dtype == np.float32 and not np.allclose(found[name], array, rtol=1e-4, atol=1e-5):
            faults.append(f"{name} differs by up to {np.abs(found[name] - array).max()}")
        elif array.dtype != np.float32 and not (found[name] == array).all():
            faults.append(f"{name} is {found[name].tolist()}, expected {array.tolist()}")
    return faults


def main() -> None:
    versions = catalog.versions()
    faults = []
    for version in versions:
        found = form_faults(version) + answer_faults(version)
        print(f"{version.title}: {'ok' if not found else '; '.join(found)}")
        faults += found
    total = sum(version.path.stat().st_size for version in versions)
    print(f"{len(versions)} versions, {total / 1e6:.1f} MB in all")
    if total > TOTAL_MAX:
        faults.append(f"{total} bytes in all, at most {TOTAL_MAX} allowed")
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main()
