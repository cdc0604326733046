"""The README's commands do what it says they do.

A fenced block under `<!-- test: curl -->` (sh) or `<!-- test: python -->` is run from the repository's root, against a
server over models/; what the block under the next `<!-- output -->` shows must be part of what it prints. White space
does not count.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from server import ROOT, Server

README = ROOT / "README.md"
LANGUAGES = {"curl": ("sh", "bash", "console"), "python": ("python",)}
BLOCK = r"\s*\n```(?P<{0}_language>\w*)\n(?P<{0}>.*?)\n```"
EXAMPLE = re.compile(
    rf"<!-- test: (?P<kind>\w+) -->{BLOCK.format('code')}(?P<between>.*?)<!-- output -->{BLOCK.format('output')}",
    re.DOTALL,
)
MARKER = re.compile(r"<!-- test: ")
RUN_SECONDS_MAX = 60


@dataclass(frozen=True)
class Example:
    """A marked block and what is to come of it."""

    kind: str
    code: str
    output: str


def examples(markdown: str) -> list[Example]:
    """The marked blocks, each of a known kind and with its output."""
    found = list(EXAMPLE.finditer(markdown))
    for match in found:
        assert match["code_language"] in LANGUAGES[match["kind"]], f"{match['kind']} block: ```{match['code_language']}"
        assert not MARKER.search(match["between"]), f"no <!-- output --> block follows:\n{match['code']}"
    assert len(found) == len(MARKER.findall(markdown)), "a <!-- test --> marker without its block and <!-- output -->"
    return [Example(match["kind"], match["code"], match["output"]) for match in found]


def run(example: Example, server: Server) -> str:
    """What the block prints, run by a person whose server has the test server's ports."""
    code = re.sub(r"(localhost|127\.0\.0\.1):8080", server.http, example.code)
    code = re.sub(r"(localhost|127\.0\.0\.1):8081", server.grpc, code)
    command = [sys.executable, "-c"] if example.kind == "python" else ["bash", "-euo", "pipefail", "-c"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    how = {"cwd": ROOT, "env": os.environ | {"PATH": path}, "timeout": RUN_SECONDS_MAX}
    done = subprocess.run([*command, code], **how, capture_output=True, text=True)
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    return done.stdout


def without_space(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("kind", LANGUAGES)
def test_the_blocks_of_the_readme_print_what_it_says(readme_server: Server, kind: str):
    marked = [example for example in examples(README.read_text()) if example.kind == kind]
    assert marked, f"{README} has no block marked <!-- test: {kind} -->"
    for example in marked:
        printed = run(example, readme_server)
        assert without_space(example.output) in without_space(printed), f"{example.code}\nprints\n{printed}"


GOOD = "<!-- test: curl -->\n```sh\necho hi\n```\nprints\n<!-- output -->\n```json\nhi\n```\n"


def test_a_marked_block_is_found_with_its_output():
    assert examples(f"# Title\n```sh\nunmarked\n```\n{GOOD}") == [Example("curl", "echo hi", "hi")]


@pytest.mark.parametrize(
    "bad",
    [
        GOOD.replace("<!-- output -->", ""),
        GOOD.replace("```sh", "```python"),
        GOOD.replace("<!-- output -->", "") + GOOD,
        GOOD.replace("\n```sh", "\nwords\n```sh"),
    ],
    ids=["no output", "wrong language", "output of another block", "no block"],
)
def test_a_marker_that_would_be_passed_over_is_a_failure(bad: str):
    with pytest.raises(AssertionError):
        examples(bad)
