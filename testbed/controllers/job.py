"""Jobs: Pods that are run until enough of them have succeeded, or too many have failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from testbed.client import key_of
from testbed.controllers.base import Object
from testbed.controllers.owner import PodOwner, is_active, named, pod_of
from testbed.model.conditions import holds, seconds_since, timestamp, transition
from testbed.model.resources import JOBS

INDEX = "batch.kubernetes.io/job-completion-index"
FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 360.0
"""Seconds until a Pod is made in place of one that failed: 10, 20, 40, … 360."""


@dataclass(frozen=True)
class Progress:
    """The Pods of a Job by how they stand."""

    active: Sequence[Object]
    succeeded: Sequence[Object]
    failed: Sequence[Object]

    @classmethod
    def of(cls, pods: Sequence[Object]) -> Progress:
        def phase(word: str) -> list[Object]:
            return [pod for pod in pods if (pod.get("status") or {}).get("phase") == word]

        return cls([pod for pod in pods if is_active(pod)], phase("Succeeded"), phase("Failed"))


class Jobs(PodOwner):
    name = "job"
    resource = JOBS

    async def sync(self, key: str) -> None:
        job = self.owner(key)
        if job is None or self.is_ending(job):
            return
        progress = Progress.of(self.owned(job))
        if _ended(job):
            await self._expire(job)
            return
        outcome = verdict(job, progress)
        if outcome or job["spec"].get("suspend"):
            await self.remove(progress.active)
        else:
            await self._keep_going(job, progress)
        await self._report(job, Progress.of(self.owned(job)), outcome)

    async def _keep_going(self, job: Object, progress: Progress) -> None:
        wait = backoff(progress)
        missing, surplus = shortage(job, progress)
        if surplus:
            await self.remove(surplus)
        elif missing and wait > 0:
            self.queue.add(key_of(job), wait)
        elif missing:
            await self.make(run_of(job, number) for number in missing)
        limit = job["spec"].get("activeDeadlineSeconds")
        if limit is not None:
            self.queue.add(key_of(job), max(0.1, limit - _age(job) + 0.1))

    async def _expire(self, job: Object) -> None:
        """A finished Job goes by itself if it is told to."""
        keep, ended = job["spec"].get("ttlSecondsAfterFinished"), _ended(job)
        if keep is None or not ended:
            return
        left = keep - seconds_since(ended["lastTransitionTime"])
        if left > 0:
            self.queue.add(key_of(job), left)
        else:
            metadata = job["metadata"]
            await self.client.delete(JOBS, metadata["name"], metadata["namespace"], uid=metadata["uid"])

    async def _report(self, job: Object, progress: Progress, outcome: tuple[str, str, str] | None) -> None:
        held = job.get("status") or {}
        counts = {
            "active": len(progress.active),
            "ready": sum(holds(pod, "Ready") for pod in progress.active),
            "succeeded": len(progress.succeeded),
            "failed": len(progress.failed),
        }
        conditions = list(held.get("conditions") or ())
        status: Object = {"startTime": held.get("startTime") or timestamp(), **named(counts)}
        if outcome:
            kind, reason, message = outcome
            first = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
            conditions += [transition(job, each, True, reason, message) for each in (first, kind)]
            if kind == "Complete":
                status["completionTime"] = timestamp()
        await self.put_status(job, status | ({"conditions": conditions} if conditions else {}))
        if outcome and outcome[0] == "Complete":
            await self.world.events.normal(job, "Completed", "Job completed")
        elif outcome:
            await self.world.events.warn(job, *outcome[1:])


def verdict(job: Object, progress: Progress) -> tuple[str, str, str] | None:
    """`(condition, reason, message)` of a Job that is over. Pure but for the clock."""
    spec = job["spec"]
    wanted = spec.get("completions")
    if wanted is None:
        done = bool(progress.succeeded) and not progress.active
    else:
        done = len(progress.succeeded) >= wanted
    if done:
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    failures = len(progress.failed)
    if spec["template"]["spec"].get("restartPolicy") == "OnFailure":
        failures += sum(_restarts(pod) for pod in progress.active)
    if failures > spec.get("backoffLimit", 6):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    limit = spec.get("activeDeadlineSeconds")
    if limit is not None and _age(job) >= limit:
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    return None


def shortage(job: Object, progress: Progress) -> tuple[list[int], list[Object]]:
    """`(indexes of Pods to make, Pods that are too many)`; the index counts in an Indexed Job only."""
    spec, active = job["spec"], progress.active
    parallel, wanted = spec.get("parallelism", 1), spec.get("completions")
    if wanted is not None:
        parallel = min(parallel, wanted - len(progress.succeeded))
    elif progress.succeeded:
        parallel = len(active)  # a work queue: one that succeeds says there is no more to do
    if len(active) > parallel:
        return [], list(active[parallel:])
    if not is_indexed(job):
        return [0] * (parallel - len(active)), []
    taken = {_index(pod) for pod in (*active, *progress.succeeded)}
    free = [number for number in range(wanted or 0) if number not in taken]
    return free[: parallel - len(active)], []


def backoff(progress: Progress) -> float:
    """Seconds still to wait after the latest failure."""
    if not progress.failed:
        return 0.0
    delay = min(FIRST_BACKOFF * 2 ** (len(progress.failed) - 1), LONGEST_BACKOFF)
    return float(delay - min(seconds_since(_finished(pod)) for pod in progress.failed))


def run_of(job: Object, number: int) -> Object:
    """A Pod of the Job; in an Indexed one it knows its index."""
    pod = pod_of(job, JOBS)
    if is_indexed(job):
        name = job["metadata"]["name"]
        pod["metadata"]["generateName"] = f"{name}-{number}-"
        pod["metadata"]["annotations"][INDEX] = pod["metadata"]["labels"][INDEX] = str(number)
        pod["spec"]["hostname"] = f"{name}-{number}"
        mark = {"name": "JOB_COMPLETION_INDEX", "value": str(number)}
        pod["spec"]["containers"] = [
            {**each, "env": [*(each.get("env") or ()), mark]} for each in pod["spec"]["containers"]
        ]
    return pod


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def _ended(job: Object) -> Object | None:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next(
        (c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None
    )


def _index(pod: Object) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(INDEX, -1))


def _age(job: Object) -> float:
    started = (job.get("status") or {}).get("startTime")
    return seconds_since(started) if started else 0.0


def _restarts(pod: Object) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(each.get("restartCount", 0) for each in statuses)


def _finished(pod: Object) -> str:
    """When the last container of a finished Pod ended."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    ends = [(each.get("state") or {}).get("terminated", {}).get("finishedAt") for each in statuses]
    return max((str(end) for end in ends if end), default=str(pod["metadata"]["creationTimestamp"]))
