"""The server under test: the real binary as a process, on ports of its own choosing."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / os.environ.get("TENSORGATE_BIN", "target/debug/tensorgate")
START_SECONDS_MAX = 60  # a debug build on two busy cores loads the sample models in about five
STOP_SECONDS_MAX = 30
NOT_OURS = ("TENSORGATE_", "RUST_LOG")  # settings of whoever runs the tests, which the server would read


class Server:
    """`tensorgate serve` with `arguments`, ready once every model that can be loaded is."""

    def __init__(self, *arguments: object, environment: dict[str, str] | None = None):
        assert BINARY.is_file(), f"{BINARY} is not there: build it, or name another with TENSORGATE_BIN"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
        ports = ("--http-port", "0", "--grpc-port", "0", "--drain-delay", "0s", "--log-format", "json")
        self._process = subprocess.Popen(
            [BINARY, "serve", *map(str, arguments), *ports],
            cwd=ROOT,
            # What one server learns changes nothing for the next.
            env=inherited | {"TENSORGATE_STATE_DIR": ""} | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.log: list[str] = []
        self._grown = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        serving = self._wait_for("serving")
        self.http: str = serving["http"]
        self.grpc: str = serving["grpc"]

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    def stop(self) -> None:
        """As Kubernetes stops it; whatever happened, it must leave cleanly."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS_MAX)
        finally:
            self._process.kill()
        self._reader.join(STOP_SECONDS_MAX)
        assert code == 0, self._story(f"the server ended with {code} after SIGTERM")
        assert not any("panicked" in line for line in self.log), self._story("the server panicked")

    def _read_log(self) -> None:
        for line in self._process.stderr:
            with self._grown:
                self.log.append(line)
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    def _wait_for(self, message: str) -> dict:
        """The first log entry with this message."""
        with self._grown:
            self._grown.wait_for(lambda: self._ended or self._entry(message), START_SECONDS_MAX)
            entry = self._entry(message)
        if entry is None:
            self._process.kill()
            raise AssertionError(self._story(f"the server did not log '{message}' within {START_SECONDS_MAX} s"))
        return entry

    def _entry(self, message: str) -> dict | None:
        entries = (json.loads(line) for line in self.log if line.startswith("{"))
        return next((entry for entry in entries if entry.get("message") == message), None)

    def _story(self, what: str) -> str:
        return f"{what}; its log:\n{''.join(self.log)}"
