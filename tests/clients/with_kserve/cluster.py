"""A cluster of processes: the API server of the controller's tests, the controller, and a kubelet that starts real servers for
pods and real routers, on ports of their own. What a Service's name leads to is looked up as kube-proxy would."""

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path

import httpx
import kubernetes
import urllib3
import yaml

from server import BINARY, ROOT, Server

NAMESPACE = "models"
CONTROLLER = BINARY.with_name("tensorgate-controller")
API_SERVER = BINARY.parent / "examples" / "apiserver"
WAIT_SECONDS_MAX = 60


class Cluster:
    """Everything, with a folder that stands for the claim `models`."""

    def __init__(self, models: Path):
        self.models = models
        self.folder = Path(tempfile.mkdtemp(prefix="cluster-"))
        self.kubeconfig = str(self.folder / "kubeconfig")
        self._processes = [self._start([API_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)]
        Path(self.kubeconfig).write_text(json.loads(self._processes[0].stdout.readline()))
        api = kubernetes.config.new_client_from_config(self.kubeconfig)
        self.core, self.apps = kubernetes.client.CoreV1Api(api), kubernetes.client.AppsV1Api(api)
        runtime = yaml.safe_load((ROOT / "deploy/base/runtime.yaml").read_text())
        self.custom = kubernetes.client.CustomObjectsApi(api)
        self.custom.create_cluster_custom_object("serving.kserve.io", "v1alpha1", "clusterservingruntimes", runtime)
        flags = ["--listen=127.0.0.1:0", "--retire-after=0", "--router-image=tensorgate"]
        self._processes.append(self._start([CONTROLLER, "run", *flags], env=os.environ | {"KUBECONFIG": self.kubeconfig}))
        self.servers: dict[str, list[Server]] = {}
        self.routers: dict[str, str] = {}
        self._routers_wanted: set[str] = set()
        self._tables: dict[str, dict] = {}
        self._routing = threading.Lock()
        self._stopping = False
        self._changed = threading.Condition()
        for follow in (self._follow_deployments, self._follow_routes, self._follow_services, self._follow_statuses):
            threading.Thread(target=self._until_the_end, args=(follow,), daemon=True).start()

    def stop(self) -> None:
        """Ends every process."""
        self._stopping = True
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        for servers in self.servers.values():
            for server in servers:
                server.stop()

    def url(self, service: str) -> str:
        """Where the name of a Service leads now."""
        app = self.core.read_namespaced_service(service, NAMESPACE).spec.selector["app"]
        return self.routers[app] if app in self.routers else self.servers[app.removeprefix("isvc.")][0].url

    def wait(self, what: str, holds) -> None:
        """Until `holds()`, looked at whenever something changes."""
        with self._changed:
            assert self._changed.wait_for(holds, WAIT_SECONDS_MAX), f"waited in vain for {what}"

    def _start(self, command: list, **options) -> subprocess.Popen:
        assert Path(command[0]).is_file(), f"{command[0]} is not there: cargo build -p tensorgate-controller --bins --examples"
        return subprocess.Popen([str(part) for part in command], **options)

    def _until_the_end(self, follow) -> None:
        """A watch ends with the API server; before that, it must not."""
        try:
            follow()
        except urllib3.exceptions.HTTPError:
            assert self._stopping, "a watch broke off"

    def _follow_deployments(self) -> None:
        for event in kubernetes.watch.Watch().stream(self.apps.list_namespaced_deployment, NAMESPACE):
            deployment = event["object"]
            if event["type"] == "DELETED":
                for server in self.servers.pop(deployment.metadata.name, []):
                    server.stop()
            elif deployment.metadata.name.endswith("-router"):
                self._routers_wanted.add(deployment.metadata.name)
            else:
                self._run_servers(deployment)
            self._route()

    def _follow_routes(self) -> None:
        for event in kubernetes.watch.Watch().stream(self.core.list_namespaced_config_map, NAMESPACE):
            if event["type"] != "DELETED":
                self._tables[event["object"].metadata.name] = json.loads(event["object"].data["routes.json"])
                self._route()

    def _follow_services(self) -> None:
        self._tell(kubernetes.watch.Watch().stream(self.core.list_namespaced_service, NAMESPACE))

    def _follow_statuses(self) -> None:
        of = ("serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices")
        self._tell(kubernetes.watch.Watch().stream(self.custom.list_namespaced_custom_object, *of))

    def _tell(self, events) -> None:
        for _ in events:
            with self._changed:
                self._changed.notify_all()

    def _run_servers(self, deployment) -> None:
        name, wanted = deployment.metadata.name, deployment.spec.replicas or 1
        own = self.servers.setdefault(name, [])
        if len(own) == wanted:
            return
        container = deployment.spec.template.spec.containers[0]
        model = next(arg.split("=")[1] for arg in container.args if arg.startswith("--model-name="))
        place = next(mount.sub_path for mount in container.volume_mounts if mount.mount_path == "/mnt/models")
        # Names and ports are the machine's here; the rest is as it was asked for.
        here = ("serve", "--host=", "--http-port=", "--grpc-port=", "--log-format=", "--model-name=", "--model-dir=")
        others = [argument for argument in container.args if not argument.startswith(here)]
        try:
            while len(own) < wanted:
                own.append(Server("--model-name", model, "--model-dir", self.models / place, *others))
        except AssertionError as ended:
            self._crash(deployment, str(ended))
            return
        while len(own) > wanted:
            own.pop().stop()
        path = container.readiness_probe.http_get.path
        if all(httpx.get(f"{server.url}{path}").status_code == 200 for server in own):
            self._ready(name, wanted)

    def _ready(self, name: str, pods: int) -> None:
        condition = {"type": "Available", "status": "True"}
        status = {"availableReplicas": pods, "readyReplicas": pods, "replicas": pods, "conditions": [condition]}
        self.apps.patch_namespaced_deployment_status(name, NAMESPACE, {"status": status})

    def _crash(self, deployment, message: str) -> None:
        name = f"{deployment.metadata.name}-0"
        if any(pod.metadata.name == name for pod in self.core.list_namespaced_pod(NAMESPACE).items):
            return
        ended = {"terminated": {"exitCode": 1, "message": message[-1000:], "finishedAt": "2026-01-01T00:00:00Z"}}
        waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
        container = {"name": "kserve-container", "state": waiting, "lastState": ended, "ready": False}
        container |= {"restartCount": 1, "image": "tensorgate", "imageID": ""}
        metadata = {"name": name, "labels": deployment.spec.template.metadata.labels}
        pod = {"metadata": metadata, "status": {"containerStatuses": [container]}}
        self.core.create_namespaced_pod(NAMESPACE, pod)

    def _routes_of(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _route(self) -> None:
        """Writes the tables whose servers are there, and starts routers that have one: all of these come in any order."""
        with self._routing:
            for name, table in list(self._tables.items()):
                if all(self.servers.get(backend["revision"]) for backend in table["backends"]):
                    self._write_routes(name, self._tables.pop(name))
            for name in sorted(self._routers_wanted - self.routers.keys()):
                if self._routes_of(name).exists():
                    self.routers[name] = self._run_router(name)
                    self._ready(name, 2)
        with self._changed:
            self._changed.notify_all()

    def _write_routes(self, name: str, table: dict) -> None:
        """With the ports of processes in place of names, all at once as the kubelet does."""
        for backend in table["backends"]:
            server = self.servers[backend["revision"]][0]
            backend["http"], backend["grpc"] = server.http, server.grpc
        routes = self._routes_of(name)
        beside = routes.with_suffix(".new")
        beside.write_text(json.dumps(table))
        beside.rename(routes)

    def _run_router(self, name: str) -> str:
        flags = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--log-format=json", f"--routes={self._routes_of(name)}"]
        process = self._start([CONTROLLER, "router", *flags], stderr=subprocess.PIPE, text=True)
        self._processes.append(process)
        url = "http://" + json.loads(process.stderr.readline())["fields"]["address"]
        threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
        return url
