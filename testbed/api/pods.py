"""Pods and Pod templates: defaults (k8s.io/kubernetes `pkg/apis/core/v1/defaults.go`) and validation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from testbed.api import rules
from testbed.api.rules import Errors
from testbed.api.status import FieldError, forbidden_field, go_value, invalid_value, not_supported, required

Object = dict[str, Any]

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
TOLERATION_SECONDS = 300
RESTART_POLICIES = ("Always", "Never", "OnFailure")


def defaults(pod: Object) -> None:
    """What a Pod gets that says nothing."""
    spec = pod.setdefault("spec", {})
    spec_defaults(spec)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("serviceAccountName", spec.get("serviceAccount") or "default")
    spec["serviceAccount"] = spec["serviceAccountName"]
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("priority", 0)
    tolerations = spec.setdefault("tolerations", [])
    for taint in (NOT_READY, UNREACHABLE):
        if not any(each.get("key") in (taint, None) for each in tolerations):
            tolerations.append(
                {
                    "key": taint,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": TOLERATION_SECONDS,
                }
            )
    status = pod.setdefault("status", {})
    status.setdefault("phase", "Pending")
    status.setdefault("qosClass", _quality(spec))


def template_defaults(template: Object) -> None:
    template.setdefault("metadata", {}).setdefault("creationTimestamp", None)
    spec_defaults(template.setdefault("spec", {}))


def spec_defaults(spec: Object) -> None:
    """What depends on something else; the rest is in the table of fields."""
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        image = container.get("image") or ""
        tag = image.rsplit("/", 1)[-1].partition(":")[2]
        newest = tag in ("", "latest") and "@" not in image
        container.setdefault("imagePullPolicy", "Always" if newest else "IfNotPresent")
        for port in container.get("ports") or ():
            if spec.get("hostNetwork") and "containerPort" in port:
                port.setdefault("hostPort", port["containerPort"])


def _quality(spec: Object) -> str:
    """The QoS class, from the containers' requests and limits."""
    resources = [each.get("resources") or {} for each in spec.get("containers") or ()]
    if not any(each.get("requests") or each.get("limits") for each in resources):
        return "BestEffort"
    guaranteed = all(
        set(each.get("limits") or ()) >= {"cpu", "memory"}
        and (each.get("requests") or each["limits"]) == each["limits"]
        for each in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"


def validate(pod: Object, old: Object | None) -> Errors:
    errors = spec_errors(pod["spec"], "spec")
    if old and not errors and _frozen(pod["spec"]) != _frozen(old["spec"]):
        told = (
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions "
            "to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it "
            "was previously negative)"
        )
        errors.append(forbidden_field("spec", told))
    return errors


def _frozen(spec: Object) -> Object:
    """The part of a Pod's spec that never changes."""
    kept = {key: value for key, value in spec.items() if key not in ("tolerations", "activeDeadlineSeconds")}
    for name in ("containers", "initContainers"):
        kept[name] = [{**each, "image": ""} for each in spec.get(name) or ()]
    return kept


def template_errors(template: Object, field: str, claims: Iterable[str] = ()) -> Errors:
    """`claims`: volumes that the Pods get besides those of the template."""
    errors = rules.labels((template.get("metadata") or {}).get("labels"), f"{field}.metadata.labels")
    return errors + spec_errors(template.get("spec") or {}, f"{field}.spec", claims)


def spec_errors(spec: Object, field: str, claims: Iterable[str] = ()) -> Errors:
    errors: Errors = []
    containers = spec.get("containers")
    if not containers or not isinstance(containers, list):
        return [required(f"{field}.containers")]
    every = [(f"{field}.containers[{at}]", each) for at, each in enumerate(containers)]
    every += [
        (f"{field}.initContainers[{at}]", each) for at, each in enumerate(spec.get("initContainers") or ())
    ]
    volumes = {*claims, *(volume.get("name") for volume in spec.get("volumes") or ())}
    for place, container in every:
        errors += _container_errors(container, place, volumes)
    errors += rules.unique((f"{place}.name", each["name"]) for place, each in every if each.get("name"))
    if spec.get("restartPolicy") not in RESTART_POLICIES:
        errors.append(not_supported(f"{field}.restartPolicy", spec.get("restartPolicy"), RESTART_POLICIES))
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and not isinstance(grace, int):
        errors.append(invalid_value(f"{field}.terminationGracePeriodSeconds", grace, "must be a number"))
    for at, volume in enumerate(spec.get("volumes") or ()):
        if not volume.get("name"):
            errors.append(required(f"{field}.volumes[{at}].name"))
    return errors


def _container_errors(container: Any, place: str, volumes: set[Any]) -> Errors:
    if not isinstance(container, dict):
        return [invalid_value(place, container, "must be an object")]
    errors: Errors = []
    name = container.get("name")
    if not name:
        errors.append(required(f"{place}.name"))
    elif wrong := rules.dns_label(str(name)):
        errors.append(invalid_value(f"{place}.name", name, wrong))
    if not container.get("image"):
        errors.append(required(f"{place}.image"))
    ports = list(enumerate(container.get("ports") or ()))
    for at, port in ports:
        here = f"{place}.ports[{at}]"
        if "containerPort" not in port:
            errors.append(required(f"{here}.containerPort"))
        else:
            errors += rules.port_number(port["containerPort"], f"{here}.containerPort")
        if port.get("name"):
            errors += rules.port_name(port["name"], f"{here}.name")
        errors += rules.protocol(port.get("protocol"), f"{here}.protocol")
    errors += rules.unique(
        (f"{place}.ports[{at}].name", port["name"]) for at, port in ports if port.get("name")
    )
    for at, variable in enumerate(container.get("env") or ()):
        if not variable.get("name"):
            errors.append(required(f"{place}.env[{at}].name"))
    for at, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            errors.append(_not_found(f"{place}.volumeMounts[{at}].name", mount.get("name")))
        if not mount.get("mountPath"):
            errors.append(required(f"{place}.volumeMounts[{at}].mountPath"))
    return errors


def _not_found(field: str, value: Any) -> FieldError:
    return FieldError(field, "FieldValueNotFound", f"Not found: {go_value(value)}")
