"""Startup policy {{name}}: the leader first, the workers when it is ready."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import lifecycle, startup
from wit_world.imports import types


class Lifecycle(exports.Lifecycle):
    def describe(self):
        return lifecycle.Descriptor(name="{{name}}", version="0.1.0", settings_schema="")

    def validate_settings(self, settings):
        return [] if settings == "{}" else [types.SettingsError("", "{{name}} has no settings; leave them out")]

    def prepare(self, settings):
        return lifecycle.Preparation(levels=[], effects=[], peers=None)


class Startup(exports.Startup):
    def next(self, settings, request):
        try:
            return [step(group) for group in request.groups]
        except Exception as fault:
            # An exception would end the call without a word; this way its message reaches the users.
            raise Err(types.Failure_Internal(f"{type(fault).__name__}: {fault}"))


def step(group):
    if any(pod.rank == 0 and pod.phase == startup.Phase.READY for pod in group.pods):
        admit, code, message = group.size, "LeaderReady", f"the leader is ready, so all {group.size} pods may start"
    else:
        admit, code, message = 1, "WaitingForLeader", f"{group.size - 1} workers wait until the leader is ready"
    return startup.Step(group=group.index, admit=admit, recheck_ms=None, reason=types.Reason(code, message))
