#!/usr/bin/env bash
# Real clients against the real binary: tests/clients/run.sh [pytest arguments].
# TENSORGATE_BIN names the binary (default: target/debug/tensorgate), CLIENTS_VENV the environment (default: .venv).
set -euo pipefail
cd "$(dirname "$0")/../.."

export TENSORGATE_BIN=${TENSORGATE_BIN:-target/debug/tensorgate}
export PYTHONDONTWRITEBYTECODE=  # its bytecode makes importing kserve four times faster
venv=${CLIENTS_VENV:-.venv}
stamp=$venv/clients-requirements.sha256
requirements=(tests/clients/requirements.txt tests/clients/with_{schemathesis,kubernetes,stores,sentences}/requirements.txt)

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
if ! sha256sum --check --status "$stamp" 2>/dev/null; then
    echo "installing the clients into $venv (some 450 MB, half a minute)"
    # Bytecode is left to the first import: most modules never have one.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "${requirements[@]/#/--requirement=}"
    sha256sum "${requirements[@]}" >"$stamp"
fi

# Azurite is Node's, and so is its installer: both come as a wheel, for machines that have neither.
azurite=3.37.0
PATH=$(cd "$venv/bin" && pwd):$PATH
if ! [ -x .azurite/node_modules/.bin/azurite-blob ]; then
    echo "installing Azurite into .azurite (some 360 MB, two minutes)"
    mkdir -p .azurite
    "$venv/bin/npm" install --silent --no-audit --no-fund --prefix .azurite "azurite@$azurite" ||
        echo "Azurite could not be installed: the tests of Azure Blob Storage are skipped"
fi

# Both SDKs register a protobuf package called "inference", so a process can hold only one of them.
status=0
"$venv/bin/python" -m pytest tests/clients --ignore tests/clients/with_kserve --ignore tests/clients/with_stores "$@" || status=$?
"$venv/bin/python" -m pytest tests/clients/with_kserve "$@" || status=$?
# The servers of stores change the HTTP clients of their process.
"$venv/bin/python" -m pytest tests/clients/with_stores "$@" || status=$?
exit $status
