"""Kinds that make Pods: defaults that depend on something, validation (k8s.io/kubernetes `pkg/apis/apps`)."""

from __future__ import annotations

from typing import Any

from testbed.api import pods, rules
from testbed.api.rules import Errors
from testbed.api.status import forbidden_field, invalid_value, not_supported, required
from testbed.model.labels import selects

Object = dict[str, Any]

STRATEGIES = {"Deployment": "strategy", "DaemonSet": "updateStrategy", "StatefulSet": "updateStrategy"}
CHANGEABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
"""Of the spec of a StatefulSet."""


def defaults(obj: Object) -> None:
    """Of every kind that makes Pods; a strategy that says nothing is a rolling update."""
    spec = obj.setdefault("spec", {})
    pods.template_defaults(spec.setdefault("template", {}))
    name = STRATEGIES.get(obj["kind"])
    if name:
        strategy = spec.setdefault(name, {})
        if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {})


def replication_controller_defaults(obj: Object) -> None:
    defaults(obj)
    spec = obj["spec"]
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if labels and not spec.get("selector"):
        spec["selector"] = dict(labels)
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)


def job_defaults(obj: Object) -> None:
    """A Job whose selector nobody wrote selects its own Pods, by its uid."""
    defaults(obj)
    spec, metadata = obj["spec"], obj["metadata"]
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    if not spec.get("selector") and metadata.get("uid"):
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": metadata["uid"]}}
        labels = spec["template"]["metadata"].setdefault("labels", {})
        for prefix in ("", "batch.kubernetes.io/"):
            labels[f"{prefix}controller-uid"] = metadata["uid"]
            labels[f"{prefix}job-name"] = metadata["name"]


def validate(obj: Object, old: Object | None) -> Errors:
    """A kind with a LabelSelector: it must select its own template and never change."""
    spec = obj["spec"]
    selector = spec.get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        errors = [required("spec.selector")]
    else:
        errors = rules.labels(selector.get("matchLabels"), "spec.selector.matchLabels")
        errors += _template_selected(obj, selects(selector, _template_labels(spec)))
    claims = [
        str((each.get("metadata") or {}).get("name")) for each in spec.get("volumeClaimTemplates") or ()
    ]
    errors += _replicas(spec) + pods.template_errors(spec["template"], "spec.template", claims)
    return errors + rules.unchanged(obj, old, "spec.selector")


def always_restarts(obj: Object, old: Object | None) -> Errors:
    """`validate`, for kinds whose Pods run for ever."""
    errors = validate(obj, old)
    policy = obj["spec"]["template"]["spec"].get("restartPolicy")
    if policy != "Always":
        field = "spec.template.spec.restartPolicy"
        errors.append(not_supported(field, policy, ["Always"]))
    return errors


def replication_controller_errors(obj: Object, old: Object | None) -> Errors:
    spec = obj["spec"]
    selector = spec.get("selector") or {}
    errors = [] if selector else [required("spec.selector")]
    errors += _template_selected(obj, selects({"matchLabels": selector}, _template_labels(spec)))
    return errors + _replicas(spec) + pods.template_errors(spec["template"], "spec.template")


def stateful_set_errors(obj: Object, old: Object | None) -> Errors:
    errors = always_restarts(obj, old)
    kept = {name: value for name, value in obj["spec"].items() if name not in CHANGEABLE}
    if old and kept != {name: value for name, value in old["spec"].items() if name not in CHANGEABLE}:
        *names, last = (f"'{name}'" for name in CHANGEABLE)
        told = (
            f"updates to statefulset spec for fields other than {', '.join(names)} and {last} are forbidden"
        )
        errors.append(forbidden_field("spec", told))
    return errors


def job_errors(obj: Object, old: Object | None) -> Errors:
    spec = obj["spec"]
    errors = rules.unchanged(obj, old, "spec.completions", "spec.selector", "spec.template")
    errors += pods.template_errors(spec["template"], "spec.template")
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy == "Always":
        field, known = "spec.template.spec.restartPolicy", ["OnFailure", "Never"]
        errors.append(not_supported(field, policy, known))
    for field in ("parallelism", "completions", "backoffLimit"):
        errors += _not_negative(spec.get(field, 0), f"spec.{field}")
    return errors


def controller_revision_errors(obj: Object, old: Object | None) -> Errors:
    """A revision is a picture of the past: only its number may change."""
    return _not_negative(obj.get("revision", 0), "revision") + rules.unchanged(obj, old, "data")


def _template_labels(spec: Object) -> dict[str, str]:
    return (spec["template"].get("metadata") or {}).get("labels") or {}


def _template_selected(obj: Object, selected: bool) -> Errors:
    if selected:
        return []
    labels = _template_labels(obj["spec"])
    return [
        invalid_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    ]


def _replicas(spec: Object) -> Errors:
    return _not_negative(spec.get("replicas", 0), "spec.replicas")


def _not_negative(value: Any, field: str) -> Errors:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return []
    return [invalid_value(field, value, "must be greater than or equal to 0")]
