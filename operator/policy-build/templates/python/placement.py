"""Placement policy {{name}}: every group inside one domain of one node label, in the one with the least room left over."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import lifecycle, placement
from wit_world.imports import types

NONE = 4294967295
# What can be set, and its default. A misspelt field is a fault.
DEFAULTS = {
    # The node label whose values are the domains.
    "level": "topology.kubernetes.io/zone",
}


def settings_of(document):
    return DEFAULTS | json.loads(document)


class Lifecycle(exports.Lifecycle):
    def describe(self):
        return lifecycle.Descriptor(name="{{name}}", version="0.1.0", settings_schema="")

    def validate_settings(self, settings):
        given = json.loads(settings)
        if not isinstance(given, dict):
            return [types.SettingsError("", 'settings are an object, such as {"level": "topology.kubernetes.io/zone"}')]
        unknown = [types.SettingsError(f"/{field}", f"unknown field; there is {', '.join(DEFAULTS)}") for field in given if field not in DEFAULTS]
        wrong = [types.SettingsError(f"/{field}", "must be a node label") for field in given if field in DEFAULTS and not (isinstance(given[field], str) and given[field])]
        return unknown + wrong

    def prepare(self, settings):
        return lifecycle.Preparation(levels=[settings_of(settings)["level"]], effects=[], peers=None)


class Placement(exports.Placement):
    def place(self, settings, view, request):
        try:
            level_name = settings_of(settings)["level"]
            return [answer(unit, view, request.exclusive, level_name) for unit in request.units]
        except Exception as fault:
            # An exception would end the call without a word; this way its message reaches the users.
            raise Err(types.Failure_Internal(f"{type(fault).__name__}: {fault}"))


def answer(unit, view, exclusive, level_name):
    # What `prepare` named comes first among the levels. A set that wants domains for itself says at which level.
    level = 0 if exclusive is None else exclusive
    pods = sum(demand.pods for demand in unit.pods)
    current = unit.current.domains[level] if unit.current else NONE
    if current != NONE:
        # New pods join those that run already.
        domains = [current]
    else:
        # The operator takes the first that still has room when it comes to this answer, so there is no need to count.
        domains = view.best_domains(level, unit.pods, exclusive is not None, 64)
    if domains:
        decision = placement.Decision_Within([types.Location(level, domain) for domain in domains])
        message = f"{view.domain_name(level, domains[0])} has room for {pods} pods, with the least left over"
        reason = types.Reason("LeastLeftOver", message)
    else:
        decision = placement.Decision_Hold(30_000)
        reason = types.Reason("NoRoom", f"no domain of {level_name} has room for {pods} pods")
    return placement.Answer(unit=unit.id, decision=decision, avoid=[], effects=[], reason=reason)
