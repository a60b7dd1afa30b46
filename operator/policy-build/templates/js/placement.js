// Placement policy {{name}}: every group inside one domain of one node label, in the one with the least room left over.

const NONE = 4294967295;

// What can be set. A misspelt field is a fault.
const defaults = {
  // The node label whose values are the domains.
  level: "topology.kubernetes.io/zone",
};

const settingsOf = (document) => ({ ...defaults, ...JSON.parse(document) });

export const lifecycle = {
  describe() {
    return { name: "{{name}}", version: "0.1.0", settingsSchema: "" };
  },

  validateSettings(document) {
    const given = JSON.parse(document);
    if (given === null || typeof given !== "object" || Array.isArray(given)) {
      return [{ path: "", message: "settings are an object, such as {\"level\": \"topology.kubernetes.io/zone\"}" }];
    }
    return Object.entries(given).flatMap(([field, value]) => {
      if (!(field in defaults)) return [{ path: `/${field}`, message: `unknown field; there is ${Object.keys(defaults)}` }];
      return typeof value === "string" && value ? [] : [{ path: `/${field}`, message: "must be a node label" }];
    });
  },

  prepare(document) {
    return { levels: [settingsOf(document).level], effects: [], peers: undefined };
  },
};

export const placement = {
  place(document, view, request) {
    const settings = settingsOf(document);
    // What `prepare` named comes first among the levels. A set that wants domains for itself says at which level.
    const exclusive = request.exclusive !== undefined;
    const level = exclusive ? request.exclusive : 0;
    // What this call gave away already: the domains, and all pods that were put into the last of them. The snapshot does not
    // change while the call runs, so the policy counts for itself.
    const given = { domains: [], pods: [] };
    return request.units.map((unit) => {
      const domain = choose(unit, view, level, exclusive, given);
      return answer(unit, view, level, domain, settings);
    });
  },
};

// The domain for a unit; undefined if there is no room.
function choose(unit, view, level, exclusive, given) {
  const give = (domain, pods) => {
    given.domains.push(domain);
    given.pods = pods;
    return domain;
  };
  const current = unit.current ? unit.current.domains[level] : NONE;
  // New pods join those that run already.
  if (current !== NONE) return give(current, unit.pods);
  const last = given.domains.at(-1);
  if (last !== undefined && !exclusive) {
    // Is there still room where the unit before this one went, for both of them?
    const together = [...given.pods, ...unit.pods];
    if (view.bestDomains(level, together, false, 1024).includes(last)) {
      given.pods = together;
      return last;
    }
  }
  // One more than were given away: one of them is still free.
  const best = view.bestDomains(level, unit.pods, exclusive, given.domains.length + 1);
  const free = best.find((domain) => !given.domains.includes(domain));
  return free === undefined ? undefined : give(free, unit.pods);
}

function answer(unit, view, level, domain, settings) {
  const pods = unit.pods.reduce((sum, demand) => sum + demand.pods, 0);
  const rest = { unit: unit.id, avoid: [], effects: [] };
  if (domain === undefined) {
    const message = `no domain of ${settings.level} has room for ${pods} pods`;
    return { ...rest, decision: { tag: "hold", val: 30000 }, reason: { code: "NoRoom", message } };
  }
  const message = `${view.domainName(level, domain)} has room for ${pods} pods, with the least left over`;
  return { ...rest, decision: { tag: "within", val: [{ level, domain }] }, reason: { code: "LeastLeftOver", message } };
}
