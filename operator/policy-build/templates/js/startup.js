// Startup policy {{name}}: the leader first, the workers when it is ready.

export const lifecycle = {
  describe() {
    return { name: "{{name}}", version: "0.1.0", settingsSchema: "" };
  },

  validateSettings(document) {
    return document === "{}" ? [] : [{ path: "", message: "{{name}} has no settings; leave them out" }];
  },

  prepare() {
    return { levels: [], effects: [], peers: undefined };
  },
};

export const startup = {
  next(document, request) {
    return request.groups.map(step);
  },
};

function step(group) {
  const leader = group.pods.find((pod) => pod.rank === 0);
  if (leader && leader.phase === "ready") {
    const message = `the leader is ready, so all ${group.size} pods may start`;
    return { group: group.index, admit: group.size, recheckMs: undefined, reason: { code: "LeaderReady", message } };
  }
  const message = `${group.size - 1} workers wait until the leader is ready`;
  return { group: group.index, admit: 1, recheckMs: undefined, reason: { code: "WaitingForLeader", message } };
}
