"""Stands in for a metrics adapter, such as KEDA's or that of Prometheus: the API external.metrics.k8s.io, whose values are added up over
the pods of a component, as their admin servers tell them.

    metrics_adapter.py ADDRESS PORT CERTIFICATE KEY KUBECTL KUBECONFIG
"""

import http.server
import json
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request

GROUP = "external.metrics.k8s.io"
VERSION = f"{GROUP}/v1beta1"
ADDRESS, PORT, CERTIFICATE, KEY, KUBECTL, KUBECONFIG = sys.argv[1:]


def pods(namespace, component):
    command = [KUBECTL, "--kubeconfig", KUBECONFIG, "--namespace", namespace, "get", "pods", "--output", "json"]
    command += ["--selector", f"app.kubernetes.io/component={component}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=10).stdout)["items"]


def value_in(pod, metric):
    """The sum of a metric over its labels; 0 while the pod does not answer."""
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    address = pod["status"].get("podIP")
    port = next((port["containerPort"] for port in ports if port.get("name") == "admin"), None)
    if address is None or port is None:
        return 0.0
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=2) as page:
            lines = page.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric + "{"))


def values(namespace, metric, query):
    selector = urllib.parse.parse_qs(query).get("labelSelector", [""])[0]
    labels = dict(label.split("=", 1) for label in selector.split(",") if "=" in label)
    total = sum(value_in(pod, metric) for pod in pods(namespace, labels["component"]))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    item = {"metricName": metric, "metricLabels": labels, "timestamp": now, "value": f"{round(1000 * total)}m"}
    return {"kind": "ExternalMetricValueList", "apiVersion": VERSION, "metadata": {}, "items": [item]}


def answer(path, query):
    match path.strip("/").split("/"):
        case ["apis", group] if group == GROUP:
            versions = [{"groupVersion": VERSION, "version": "v1beta1"}]
            return {
                "kind": "APIGroup",
                "apiVersion": "v1",
                "name": GROUP,
                "versions": versions,
                "preferredVersion": versions[0],
            }
        case ["apis", group, "v1beta1"] if group == GROUP:
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": VERSION, "resources": []}
        case ["apis", group, "v1beta1", "namespaces", namespace, metric] if group == GROUP:
            return values(namespace, metric, query)
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        told = answer(path, query)
        body = json.dumps(told or {}).encode()
        self.send_response(404 if told is None else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server = http.server.ThreadingHTTPServer((ADDRESS, int(PORT)), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
