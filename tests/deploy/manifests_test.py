"""Checks deploy/k8s and deploy/docker/Dockerfile without a cluster.

    manifests_test.py SOURCE_DIR DEPS_DIR

Renders the base as `kubectl` does, validates every object against the strict
schemas of the oldest and the newest Kubernetes that we say it runs on, and
holds it against the server's own sources: ports, probes, times, mounts. Needs
kubectl, yamllint (Debian) and DEPS_DIR/lint (deploy/setup.sh).
"""

import copy
import os
import re
import subprocess
import sys
import unittest

SOURCE, DEPS = (os.path.abspath(path) for path in sys.argv[1:3])
LINT = os.path.join(DEPS, "lint")
sys.path.insert(0, LINT)

import jsonschema  # noqa: E402
import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402

BASE = os.path.join(SOURCE, "deploy/k8s/base")
VERSIONS = ["1.27", "1.37"]  # gRPC probes are stable since 1.27

# What we use of monitoring.coreos.com/v1, as the operator's CRD has it; unknown
# keys are refused.
POD_MONITOR = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "PodMonitor"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["selector", "podMetricsEndpoints"],
            "properties": {
                "selector": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["matchLabels"],
                    "properties": {
                        "matchLabels": {
                            "type": "object",
                            "additionalProperties": {"type": "string"},
                        }
                    },
                },
                "podMetricsEndpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["port"],
                        "properties": {
                            "port": {"type": "string"},
                            "path": {"type": "string", "pattern": "^/"},
                            "interval": {
                                "type": "string",
                                "pattern": "^[0-9]+(ms|s|m)$",
                            },
                            "scrapeTimeout": {"type": "string"},
                        },
                    },
                },
            },
        },
    },
}


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        return file.read()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


class Manifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        code, text = run("kubectl", "kustomize", BASE)
        assert code == 0, text
        cls.objects = list(yaml.safe_load_all(text))
        cls.config = yaml.safe_load(read("deploy/k8s/base/descant.yaml"))
        cls.stateful_set = cls.only("StatefulSet")
        cls.pod = cls.stateful_set["spec"]["template"]["spec"]
        cls.server = cls.pod["containers"][0]

    @classmethod
    def all(cls, kind):
        return [o for o in cls.objects if o["kind"] == kind]

    @classmethod
    def only(cls, kind):
        (found,) = cls.all(kind)
        return found

    def validate(self, document, version):
        kubernetes_validate.validate(document, version, strict=True)

    def test_every_object_fits_its_schema(self):
        checked = 0
        for document in self.objects:
            if document["kind"] == "PodMonitor":
                jsonschema.validate(document, POD_MONITOR)
                continue
            for version in VERSIONS:
                with self.subTest(kind=document["kind"], version=version):
                    self.validate(document, version)
                    checked += 1
        self.assertEqual(checked, len(VERSIONS) * (len(self.objects) - 1))

    def test_the_schemas_do_refuse(self):
        wrong = copy.deepcopy(self.stateful_set)
        probe = wrong["spec"]["template"]["spec"]["containers"][0]
        probe["livenessProbe"]["grpc"]["servce"] = "liveness"
        with self.assertRaises(kubernetes_validate.ValidationError):
            self.validate(wrong, VERSIONS[0])
        wrong = copy.deepcopy(self.only("PodMonitor"))
        wrong["spec"]["podMetricsEndpoints"][0]["prot"] = "metrics"
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.validate(wrong, POD_MONITOR)

    def test_yaml_style(self):
        code, text = run("yamllint", "--strict",
                         "-c", os.path.join(SOURCE, "deploy/k8s/yamllint.yaml"),
                         os.path.join(SOURCE, "deploy/k8s"))
        self.assertEqual(code, 0, text)

    def test_dockerfile(self):
        code, text = run(os.path.join(LINT, "bin/hadolint"),
                         os.path.join(SOURCE, "deploy/docker/Dockerfile"))
        self.assertEqual(code, 0, text)

    def test_ports_are_those_the_server_listens_on(self):
        ports = {p["name"]: p["containerPort"] for p in self.server["ports"]}
        for key, name in (("listen", "grpc"), ("metrics-listen", "metrics")):
            host, port = self.config[key].rsplit(":", 1)
            self.assertEqual(host, "0.0.0.0")
            self.assertEqual(int(port), ports[name])
        self.assertTrue(self.config["admin-listen"].startswith("127.0.0.1:"))
        for service in self.all("Service"):
            (port,) = service["spec"]["ports"]
            self.assertIn(port["targetPort"], ports)
            self.assertEqual(port["appProtocol"], "kubernetes.io/h2c")
        for endpoint in self.only("PodMonitor")["spec"]["podMetricsEndpoints"]:
            self.assertIn(endpoint["port"], ports)
        for rule in self.only("NetworkPolicy")["spec"]["ingress"]:
            for port in rule["ports"]:
                self.assertIn(port["port"], ports)

    def test_probes_ask_for_services_that_the_server_has(self):
        source = read("server/app_listen.cc") + read("server/app.cc")
        table = re.search(r"kReadinessNames\[\] = \{(.*?)\};", source, re.S)
        ready = set(re.findall(r'"([^"]*)"', table.group(1)))
        listen = int(self.config["listen"].rsplit(":", 1)[1])
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(self.server[name]["grpc"]["port"], listen)
        for name in ("startupProbe", "readinessProbe"):
            self.assertIn(self.server[name]["grpc"]["service"], ready)
        live = self.server["livenessProbe"]["grpc"]["service"]
        self.assertNotIn(live, ready)
        self.assertIn(f'SetServingStatus("{live}"', source)

    def test_the_grace_period_covers_pause_and_drain(self):
        pause = int(self.server["lifecycle"]["preStop"]["exec"]["command"][1])
        drain = seconds(self.config["drain-timeout"])
        probe = self.server["readinessProbe"]
        self.assertGreater(pause,
                           probe["periodSeconds"] * probe["failureThreshold"])
        self.assertGreaterEqual(self.pod["terminationGracePeriodSeconds"],
                                pause + drain + 5)

    def test_every_path_is_mounted(self):
        volumes = {v["name"]: v for v in self.pod["volumes"]}
        templates = self.stateful_set["spec"]["volumeClaimTemplates"]
        claims = {c["metadata"]["name"] for c in templates}
        for container in [*self.pod["initContainers"], self.server]:
            for mount in container["volumeMounts"]:
                self.assertIn(mount["name"], {*volumes, *claims})
        mounts = {m["mountPath"]: m for m in self.server["volumeMounts"]}

        def mount_of(path):
            (found,) = [m for p, m in mounts.items()
                        if path.startswith(p + "/")]
            return found

        self.assertIn(mount_of(self.config["adapter-dir"])["name"], claims)
        self.assertTrue(mount_of(self.config["model"])["readOnly"])
        tenants = self.config["tenants"]
        self.assertEqual(volumes[mount_of(tenants)["name"]]["emptyDir"]["medium"],
                         "Memory")
        self.assertEqual(self.pod["initContainers"][0]["command"][-1], tenants)
        (flag,) = self.server["args"]
        config = flag.removeprefix("--config=")
        config_map = volumes[mount_of(config)["name"]]["configMap"]["name"]
        self.assertEqual(config_map, self.only("ConfigMap")["metadata"]["name"])
        self.assertIn(os.path.basename(config), self.only("ConfigMap")["data"])
        self.assertEqual(volumes["model"]["persistentVolumeClaim"]["claimName"],
                         self.only("PersistentVolumeClaim")["metadata"]["name"])

    def test_nothing_is_privileged(self):
        context = self.pod["securityContext"]
        self.assertTrue(context["runAsNonRoot"])
        self.assertGreater(context["runAsUser"], 0)
        self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertFalse(self.pod["automountServiceAccountToken"])
        for container in [*self.pod["initContainers"], self.server]:
            context = container["securityContext"]
            self.assertIs(context["allowPrivilegeEscalation"], False)
            self.assertIs(context["readOnlyRootFilesystem"], True)
            self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
            self.assertIn("memory", container["resources"]["limits"])
        user = re.search(r"^USER (\d+):", read("deploy/docker/Dockerfile"), re.M)
        self.assertEqual(int(user.group(1)),
                         self.pod["securityContext"]["runAsUser"])

    def test_selectors_select_the_pod(self):
        labels = self.stateful_set["spec"]["template"]["metadata"]["labels"]
        selectors = [self.stateful_set["spec"]["selector"]["matchLabels"],
                     self.only("PodDisruptionBudget")["spec"]["selector"]
                     ["matchLabels"],
                     self.only("PodMonitor")["spec"]["selector"]["matchLabels"],
                     self.only("NetworkPolicy")["spec"]["podSelector"]
                     ["matchLabels"]]
        selectors += [s["spec"]["selector"] for s in self.all("Service")]
        for selector in selectors:
            self.assertTrue(selector)
            self.assertLessEqual(selector.items(), labels.items())
        names = {s["metadata"]["name"]: s for s in self.all("Service")}
        headless = names[self.stateful_set["spec"]["serviceName"]]
        self.assertEqual(headless["spec"]["clusterIP"], "None")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
