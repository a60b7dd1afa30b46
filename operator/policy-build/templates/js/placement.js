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
    return request.units.map((unit) => answer(unit, view, level, exclusive, settings));
  },
};

function answer(unit, view, level, exclusive, settings) {
  const current = unit.current ? unit.current.domains[level] : NONE;
  // New pods join those that run already. Else the operator takes the first domain that still has room when it comes to this
  // answer, so there is no need to count.
  const domains = current !== NONE ? [current] : Array.from(view.bestDomains(level, unit.pods, exclusive, 64));
  const pods = unit.pods.reduce((sum, demand) => sum + demand.pods, 0);
  const rest = { unit: unit.id, avoid: [], effects: [] };
  if (domains.length === 0) {
    const message = `no domain of ${settings.level} has room for ${pods} pods`;
    return { ...rest, decision: { tag: "hold", val: 30000 }, reason: { code: "NoRoom", message } };
  }
  const message = `${view.domainName(level, domains[0])} has room for ${pods} pods, with the least left over`;
  const locations = domains.map((domain) => ({ level, domain }));
  return { ...rest, decision: { tag: "within", val: locations }, reason: { code: "LeastLeftOver", message } };
}
