// Placement policy spread-zones: the groups of a set are spread over zones, so that one zone's failure takes as few as possible.

const NONE = 4294967295;
// Zones that are tried for a group.
const TRIES = 8;

const defaults = {
  // The node label whose values are the zones.
  level: "topology.kubernetes.io/zone",
};

const settingsOf = (document) => ({ ...defaults, ...JSON.parse(document) });

export const lifecycle = {
  describe() {
    return { name: "spread-zones", version: "0.1.0", settingsSchema: "" };
  },

  validateSettings(document) {
    const given = JSON.parse(document);
    if (given === null || typeof given !== "object" || Array.isArray(given)) {
      return [{ path: "", message: "settings are an object, such as {\"level\": \"topology.kubernetes.io/zone\"}" }];
    }
    return Object.entries(given).flatMap(([field, value]) => {
      if (field !== "level") return [{ path: `/${field}`, message: "unknown field; there is level" }];
      return typeof value === "string" && value ? [] : [{ path: "/level", message: "must be a node label" }];
    });
  },

  prepare(document) {
    return { levels: [settingsOf(document).level], effects: [], peers: undefined };
  },
};

export const placement = {
  place(document, view, request) {
    const settings = settingsOf(document);
    if (request.exclusive !== undefined && request.exclusive !== 0) {
      throw { tag: "unsupported", val: `a set that wants domains for itself at another level than ${settings.level} can't be spread over it` };
    }
    const exclusive = request.exclusive !== undefined;
    // For every zone: how many groups of the set it has, and the pods that this call put there. The snapshot does not change while
    // the call runs, so the policy counts for itself.
    const zones = Array.from({ length: view.domainCount(0) }, () => ({ groups: 0, given: [] }));
    for (const { domains } of request.placed) {
      if (domains[0] !== NONE) zones[domains[0]].groups++;
    }
    return request.units.map((unit) => {
      const zone = choose(unit, view, exclusive, zones);
      return answer(unit, view, zone, zones, settings);
    });
  },
};

// The zone for a unit; undefined if there is no room.
function choose(unit, view, exclusive, zones) {
  const current = unit.current ? unit.current.domains[0] : NONE;
  // New pods join those that run already.
  if (current !== NONE) return current;
  const fits = (zone) => {
    const { given } = zones[zone];
    if (given.length === 0) return true;
    return !exclusive && view.bestDomains(0, [...given, ...unit.pods], false, 1024).includes(zone);
  };
  const room = Array.from(view.bestDomains(0, unit.pods, exclusive, 1024));
  // Sorting is stable: of two zones with as many groups the one with the least left over stays first. Where eight have filled up
  // during this call, the unit waits: it is asked about again when they are counted.
  return room.sort((a, b) => zones[a].groups - zones[b].groups).slice(0, TRIES).find(fits);
}

function answer(unit, view, zone, zones, settings) {
  const rest = { unit: unit.id, avoid: [], effects: [] };
  if (zone === undefined) {
    return { ...rest, decision: { tag: "hold", val: 30000 }, reason: { code: "NoRoom", message: `no ${settings.level} has room for the group` } };
  }
  const message = `${view.domainName(0, zone)} has ${zones[zone].groups} of the set's groups, no zone with room has fewer`;
  zones[zone].groups++;
  zones[zone].given.push(...unit.pods);
  return { ...rest, decision: { tag: "within", val: [{ level: 0, domain: zone }] }, reason: { code: "FewestGroups", message } };
}
