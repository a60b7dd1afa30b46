"""Placement policy node-pool-by-label: a label of the set says which node pools its groups may use, best first."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import lifecycle, placement
from wit_world.imports import types

NONE = 4294967295
DEFAULTS = {
    # The label of the set.
    "label": "team",
    # The node label whose values are the pools.
    "level": "cloud.google.com/gke-nodepool",
    # For every value of the set's label: the pools, best first; "*" is for sets whose value is not here, or that have no label.
    "pools": {},
}


def settings_of(document):
    return DEFAULTS | json.loads(document)


def faults(given):
    """What is wrong with a settings document."""
    if not isinstance(given, dict):
        return [("", "settings are an object with the fields " + ", ".join(DEFAULTS))]
    found = [(f"/{field}", "unknown field; there are " + ", ".join(DEFAULTS)) for field in given if field not in DEFAULTS]
    for field in ("label", "level"):
        if field in given and not (isinstance(given[field], str) and given[field]):
            found.append((f"/{field}", "must be the key of a label"))
    pools = given.get("pools")
    if not (isinstance(pools, dict) and pools):
        return found + [("/pools", 'must be an object, such as {"research": ["gpu-a", "gpu-b"]}')]
    for team, names in pools.items():
        if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            pointer = team.replace("~", "~0").replace("/", "~1")
            found.append((f"/pools/{pointer}", "must be a list of names of node pools"))
    return found


class Lifecycle(exports.Lifecycle):
    def describe(self):
        return lifecycle.Descriptor(name="node-pool-by-label", version="0.1.0", settings_schema="")

    def validate_settings(self, settings):
        return [types.SettingsError(path, message) for path, message in faults(json.loads(settings))]

    def prepare(self, settings):
        return lifecycle.Preparation(levels=[settings_of(settings)["level"]], effects=[], peers=None)


class Placement(exports.Placement):
    def place(self, settings, view, request):
        try:
            chosen = settings_of(settings)
            labels = {entry.key: entry.value for entry in request.labels}
            team = labels.get(chosen["label"])
            wanted = chosen["pools"].get(team, chosen["pools"].get("*"))
            if wanted is None:
                message = f"no pools for {chosen['label']}={team}" if team else f"the set has no label {chosen['label']}"
                return [answer_of(unit, placement.Decision_Refuse(), "NoPools", message) for unit in request.units]
            pools = {view.domain_name(0, domain): domain for domain in range(view.domain_count(0))}
            given = {}
            return [answer(unit, view, request.exclusive is not None, pools, wanted, given) for unit in request.units]
        except Exception as fault:
            # An exception would end the call without a word; this way its message reaches the users.
            raise Err(types.Failure_Internal(f"{type(fault).__name__}: {fault}"))


def answer(unit, view, exclusive, pools, wanted, given):
    """The first of the wanted pools with room for the unit beside the pods that this call has put there (`given`, by pool)."""
    current = unit.current.domains[0] if unit.current else NONE
    for name in wanted:
        pool = pools.get(name, NONE)
        if pool == NONE or (exclusive and pool in given):
            continue
        together = [*given.get(pool, []), *unit.pods]
        # New pods join those that run already.
        if pool == current or pool in view.best_domains(0, together, exclusive, 1024):
            given[pool] = together
            message = f"{name} is the first of {', '.join(wanted)} with room for the group"
            return answer_of(unit, placement.Decision_Within([types.Location(0, pool)]), "PoolOfLabel", message)
    return answer_of(unit, placement.Decision_Hold(30_000), "NoRoom", f"none of {', '.join(wanted)} has room for the group")


def answer_of(unit, decision, code, message):
    return placement.Answer(unit=unit.id, decision=decision, avoid=[], effects=[], reason=types.Reason(code, message))
