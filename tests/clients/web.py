"""HTTP without any SDK: the standard library, and curl where it is installed."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request


def urllib_send(method: str, url: str, body: bytes | None = None) -> tuple[int, object]:
    """The status and the JSON answered."""
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def curl_send(method: str, url: str, body: bytes | None = None) -> tuple[int, object]:
    """As a person types it: `-d @file`, so with the content type of a form."""
    data = [] if body is None else ["--data-binary", "@-"]
    command = ["curl", "--silent", "--show-error", "--max-time", "60", "--write-out", "\n%{http_code}"]
    done = subprocess.run([*command, "--request", method, *data, url], input=body, capture_output=True, check=True)
    answer, status = done.stdout.rsplit(b"\n", 1)
    return int(status), json.loads(answer)


SENDERS = {"urllib": urllib_send} | ({"curl": curl_send} if shutil.which("curl") else {})
