"""Which fields there are: what `fieldValidation` is judged by (k8s.io/api types.go, v1.32).

A line is a type and its fields, `name:Type` where the type of the field is in the table too; a list or map of
that type is written the same way. A field without a type takes anything, and so does a kind not listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Object = dict[str, Any]

_TYPES = """
Metadata name generateName namespace selfLink uid resourceVersion generation creationTimestamp
  deletionTimestamp deletionGracePeriodSeconds labels annotations ownerReferences:Owner finalizers
  managedFields
Owner apiVersion kind name uid controller blockOwnerDeletion
Selector matchLabels matchExpressions:Expression
Expression key operator values
Service spec:ServiceSpec status
ServiceSpec ports:ServicePort selector clusterIP clusterIPs type externalIPs sessionAffinity loadBalancerIP
  loadBalancerSourceRanges externalName externalTrafficPolicy healthCheckNodePort publishNotReadyAddresses
  sessionAffinityConfig:AffinityConfig ipFamilies ipFamilyPolicy allocateLoadBalancerNodePorts
  loadBalancerClass internalTrafficPolicy trafficDistribution
ServicePort name protocol appProtocol port targetPort nodePort
AffinityConfig clientIP:ClientIP
ClientIP timeoutSeconds
Endpoints subsets:Subset
Subset addresses:EndpointAddress notReadyAddresses:EndpointAddress ports:EndpointPort
EndpointAddress ip hostname nodeName targetRef
EndpointPort name port protocol appProtocol
EndpointSlice addressType endpoints:Endpoint ports:EndpointPort
Endpoint addresses conditions:EndpointConditions hostname targetRef deprecatedTopology nodeName zone hints
EndpointConditions ready serving terminating
Deployment spec:DeploymentSpec status
DeploymentSpec replicas selector:Selector template:Template strategy:Strategy minReadySeconds
  revisionHistoryLimit paused progressDeadlineSeconds
Strategy type rollingUpdate:Rolling
Rolling maxUnavailable maxSurge partition
ReplicaSet spec:ReplicaSetSpec status
ReplicaSetSpec replicas minReadySeconds selector:Selector template:Template
ReplicationController spec:ControllerSpec status
ControllerSpec replicas minReadySeconds selector template:Template
DaemonSet spec:DaemonSetSpec status
DaemonSetSpec selector:Selector template:Template updateStrategy:Strategy minReadySeconds revisionHistoryLimit
StatefulSet spec:StatefulSetSpec status
StatefulSetSpec replicas selector:Selector template:Template volumeClaimTemplates serviceName
  podManagementPolicy updateStrategy:Strategy revisionHistoryLimit minReadySeconds
  persistentVolumeClaimRetentionPolicy ordinals
Job spec:JobSpec status
JobSpec parallelism completions activeDeadlineSeconds podFailurePolicy successPolicy backoffLimit
  backoffLimitPerIndex maxFailedIndexes selector:Selector manualSelector template:Template
  ttlSecondsAfterFinished completionMode suspend podReplacementPolicy managedBy
Template metadata:Metadata spec:PodSpec
Pod spec:PodSpec status
PodSpec volumes:Volume initContainers:Container containers:Container ephemeralContainers restartPolicy
  terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy nodeSelector serviceAccountName serviceAccount
  automountServiceAccountToken nodeName hostNetwork hostPID hostIPC shareProcessNamespace securityContext
  imagePullSecrets hostname subdomain affinity schedulerName tolerations:Toleration hostAliases:HostAlias
  priorityClassName priority dnsConfig:DnsConfig readinessGates runtimeClassName enableServiceLinks
  preemptionPolicy overhead topologySpreadConstraints setHostnameAsFQDN os hostUsers schedulingGates
  resourceClaims resources
Toleration key operator value effect tolerationSeconds
HostAlias ip hostnames
DnsConfig nameservers searches options:DnsOption
DnsOption name value
Container name image command args workingDir ports:ContainerPort envFrom:EnvFrom env:Env resources:Resources
  resizePolicy restartPolicy volumeMounts:VolumeMount volumeDevices livenessProbe:Probe readinessProbe:Probe
  startupProbe:Probe lifecycle terminationMessagePath terminationMessagePolicy imagePullPolicy
  securityContext stdin stdinOnce tty
ContainerPort name hostPort containerPort protocol hostIP
EnvFrom prefix configMapRef secretRef
Env name value valueFrom:EnvSource
EnvSource fieldRef resourceFieldRef configMapKeyRef secretKeyRef
Resources limits requests claims
VolumeMount name readOnly recursiveReadOnly mountPath subPath mountPropagation subPathExpr
Probe exec:Exec httpGet:HttpGet tcpSocket:TcpSocket grpc initialDelaySeconds timeoutSeconds periodSeconds
  successThreshold failureThreshold terminationGracePeriodSeconds
Exec command
HttpGet path port host scheme httpHeaders
TcpSocket port host
Volume name hostPath emptyDir gcePersistentDisk awsElasticBlockStore gitRepo secret nfs iscsi glusterfs
  persistentVolumeClaim rbd flexVolume cinder cephfs flocker downwardAPI fc azureFile configMap vsphereVolume
  quobyte azureDisk photonPersistentDisk projected portworxVolume scaleIO storageos csi ephemeral image
ConfigMap data binaryData immutable
Secret data stringData type immutable
ServiceAccount secrets imagePullSecrets automountServiceAccountToken
Namespace spec:NamespaceSpec status
NamespaceSpec finalizers
Node spec:NodeSpec status
NodeSpec podCIDR podCIDRs providerID unschedulable taints:Taint configSource externalID
Taint key value effect timeAdded
"""


def _parsed(text: str) -> dict[str, dict[str, str]]:
    types: dict[str, dict[str, str]] = {}
    for line in text.replace("\n  ", " ").strip().splitlines():
        name, *fields = line.split()
        types[name] = dict(field.partition(":")[::2] for field in fields)
    return types


TYPES: Mapping[str, Mapping[str, str]] = _parsed(_TYPES)
_OF_EVERY_KIND = {"kind": "", "apiVersion": "", "metadata": "Metadata"}


def unknown(kind: str, obj: Object) -> list[str]:
    """The paths of the fields that a kind does not have: `spec.template.spec.containers[0].imagee`."""
    if kind not in TYPES:
        return []
    return list(_unknown({**TYPES[kind], **_OF_EVERY_KIND}, obj, ""))


def _unknown(known: Mapping[str, str], value: Any, place: str) -> Iterator[str]:
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from _unknown(known, item, f"{place[:-1]}[{at}].")
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in known:
                yield f"{place}{name}"
            elif known[name]:
                yield from _unknown(TYPES[known[name]], item, f"{place}{name}.")
