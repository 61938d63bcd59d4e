"""Checks the files of the platforms in infra/, and prints the environment of each as JSON: {file: {variable: value}}.

A variable whose value comes from a secret or from another resource has the value null.
"""

import json
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import yaml

INFRA = Path(sys.argv[1])
VERSION = "1.34"

# Of the Prometheus operator, and of Knative as Cloud Run has it.
FOREIGN = ("monitoring.coreos.com/", "serving.knative.dev/")


class Template(yaml.SafeLoader):
    """A CloudFormation template. A function such as !Ref is the name of the function and its argument."""


def function(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    return {suffix: loader.construct_sequence(node, deep=True)}


Template.add_multi_constructor("!", function)


def documents(name):
    return list(yaml.safe_load_all((INFRA / name).read_text()))


def environment(container):
    return {each["name"]: each.get("value") for each in container["env"]}


def seconds(text):
    units = {"s": 1, "m": 60, "h": 3600}
    return int(text[:-1]) * units[text[-1]]


def kubernetes():
    objects = {}
    for name in ("kubernetes.yaml", "kubernetes-ingress.yaml", "kubernetes-autoscaling.yaml"):
        for document in documents(name):
            objects[document["kind"]] = document
            if not document["apiVersion"].startswith(FOREIGN):
                kubernetes_validate.validate(document, VERSION, strict=True)
    pod = objects["Deployment"]["spec"]["template"]
    labels = pod["metadata"].get("labels", {}).items()
    for selector in (
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["PodMonitor"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels, selector
    container = pod["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    variables = environment(container)
    assert variables["PRESENCE_LISTEN"] == f"0.0.0.0:{ports['http']}"
    assert variables["PRESENCE_METRICS_LISTEN"] == f"0.0.0.0:{ports['metrics']}"
    stops = container["lifecycle"]["preStop"]["sleep"]["seconds"] + seconds(variables["PRESENCE_DRAIN"])
    assert stops < pod["spec"]["terminationGracePeriodSeconds"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    service = objects["Service"]["spec"]["ports"][0]
    assert service["targetPort"] in ports
    backend = objects["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": objects["Service"]["metadata"]["name"], "port": {"name": service["name"]}}
    for endpoint in objects["PodMonitor"]["spec"]["podMetricsEndpoints"]:
        assert endpoint["port"] in ports
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    deployment = objects["Deployment"]
    assert scaler["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    up, down = scaler["behavior"]["scaleUp"], scaler["behavior"]["scaleDown"]
    assert up["stabilizationWindowSeconds"] < down["stabilizationWindowSeconds"]
    return {"kubernetes.yaml": variables}


def cloud_run():
    found = {}
    for name in ("cloud-run.yaml", "cloud-run-throttled.yaml"):
        (service,) = documents(name)
        assert service["apiVersion"] == "serving.knative.dev/v1" and service["kind"] == "Service"
        template = service["spec"]["template"]
        notes = template["metadata"]["annotations"]
        is_throttled = name == "cloud-run-throttled.yaml"
        assert notes["run.googleapis.com/cpu-throttling"] == str(is_throttled).lower()
        assert (notes["autoscaling.knative.dev/minScale"] == "0") == is_throttled
        # Knative accepts annotations with text values only.
        assert all(isinstance(value, str) for value in notes.values())
        (container,) = template["spec"]["containers"]
        variables = environment(container)
        # Cloud Run kills an instance 10 s after SIGTERM.
        assert seconds(variables["PRESENCE_DRAIN"]) < 10
        age = variables.get("PRESENCE_STREAM_MAX_AGE", "30m")
        assert seconds(age) < template["spec"]["timeoutSeconds"]
        variables["PORT"] = str(container["ports"][0]["containerPort"])
        found[name] = variables
    return found


def fly():
    config = tomllib.loads((INFRA / "fly.toml").read_text())
    variables = config["env"]
    assert variables["PRESENCE_LISTEN"] == f"0.0.0.0:{config['http_service']['internal_port']}"
    assert variables["PRESENCE_METRICS_LISTEN"] == f"0.0.0.0:{config['metrics']['port']}"
    assert seconds(variables["PRESENCE_DRAIN"]) < seconds(config["kill_timeout"])
    assert config["http_service"]["checks"][0]["path"] == "/readyz"
    return {"fly.toml": {**variables, "REDIS_URL": None, "PRESENCE_API_KEYS": None}}


def aws_lambda():
    template = yaml.load((INFRA / "lambda.yaml").read_text(), Loader=Template)
    resources = template["Resources"]

    def names(value):
        """The resources and parameters that a value refers to."""
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in ("Ref", "GetAtt") and isinstance(inner, str):
                    yield inner.split(".")[0]
                yield from names(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from names(inner)

    assert set(names(resources)) <= set(resources) | set(template["Parameters"])
    function = resources["Function"]["Properties"]
    assert function["Architectures"] == ["arm64"]
    variables = function["Environment"]["Variables"]
    url = resources["Url"]["Properties"]
    assert url["InvokeMode"] == variables["PRESENCE_LAMBDA_INVOKE_MODE"] == {"Ref": "InvokeMode"}
    streaming, buffered = function["Timeout"]["If"][1:]
    assert seconds(variables["PRESENCE_STREAM_MAX_AGE"]) < streaming
    assert buffered > 20, "a sweep takes up to 20 s"
    assert resources["SweepDestination"]["Properties"]["InvocationEndpoint"]["Sub"].endswith("}v1/sweep")
    found = {}
    for mode in template["Parameters"]["InvokeMode"]["AllowedValues"]:
        values = {
            name: value if isinstance(value, str) and "{{" not in value else None
            for name, value in variables.items()
        }
        found[f"lambda.yaml, {mode}"] = {
            **values,
            "PRESENCE_LAMBDA_INVOKE_MODE": mode,
            "AWS_LAMBDA_RUNTIME_API": None,
        }
    return found


print(json.dumps({**kubernetes(), **cloud_run(), **fly(), **aws_lambda()}))
