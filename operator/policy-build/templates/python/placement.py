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
            return answers(settings_of(settings)["level"], view, request)
        except Exception as fault:
            # An exception would end the call without a word; this way its message reaches the users.
            raise Err(types.Failure_Internal(f"{type(fault).__name__}: {fault}"))


class Given:
    """What this call gave away already. The snapshot does not change while it runs, so the policy counts for itself."""

    def __init__(self):
        self.domains = []
        # All pods that were put into the last of them.
        self.pods = []

    def add(self, domain, pods):
        self.domains.append(domain)
        self.pods = pods
        return domain


def answers(level_name, view, request):
    # What `prepare` named comes first among the levels. A set that wants domains for itself says at which level.
    exclusive = request.exclusive is not None
    level = request.exclusive if exclusive else 0
    given = Given()
    return [answer(unit, view, level, choose(unit, view, level, exclusive, given), level_name) for unit in request.units]


def choose(unit, view, level, exclusive, given):
    """The domain for a unit, None if there is no room."""
    current = unit.current.domains[level] if unit.current else NONE
    if current != NONE:
        # New pods join those that run already.
        return given.add(current, unit.pods)
    if given.domains and not exclusive:
        # Is there still room where the unit before this one went, for both of them?
        last, together = given.domains[-1], [*given.pods, *unit.pods]
        if last in view.best_domains(level, together, False, 1024):
            given.pods = together
            return last
    # One more than were given away: one of them is still free.
    best = view.best_domains(level, unit.pods, exclusive, len(given.domains) + 1)
    free = next((domain for domain in best if domain not in given.domains), None)
    return None if free is None else given.add(free, unit.pods)


def answer(unit, view, level, domain, level_name):
    pods = sum(demand.pods for demand in unit.pods)
    if domain is None:
        decision = placement.Decision_Hold(30_000)
        reason = types.Reason("NoRoom", f"no domain of {level_name} has room for {pods} pods")
    else:
        decision = placement.Decision_Within([types.Location(level, domain)])
        message = f"{view.domain_name(level, domain)} has room for {pods} pods, with the least left over"
        reason = types.Reason("LeastLeftOver", message)
    return placement.Answer(unit=unit.id, decision=decision, avoid=[], effects=[], reason=reason)
