// Startup policy {{name}}: the leader first, the workers when it is ready.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "startup_policy.h"

// The operator frees what a policy returns by calling back into these bindings, so everything returned is allocated.
static void *array(size_t length, size_t size) {
  void *memory = calloc(length ? length : 1, size);
  if (!memory) abort();
  return memory;
}

void exports_muster_policy_lifecycle_describe(exports_muster_policy_lifecycle_descriptor_t *ret) {
  startup_policy_string_dup(&ret->name, "{{name}}");
  startup_policy_string_dup(&ret->version, "0.1.0");
  startup_policy_string_dup(&ret->settings_schema, "");
}

void exports_muster_policy_lifecycle_validate_settings(startup_policy_string_t *settings,
                                                       exports_muster_policy_lifecycle_list_settings_error_t *ret) {
  // Without settings the document is {}.
  ret->len = !(settings->len == 2 && memcmp(settings->ptr, "{}", 2) == 0);
  ret->ptr = array(ret->len, sizeof *ret->ptr);
  if (ret->len) {
    startup_policy_string_dup(&ret->ptr[0].path, "");
    startup_policy_string_dup(&ret->ptr[0].message, "{{name}} has no settings; leave them out");
  }
}

void exports_muster_policy_lifecycle_prepare(startup_policy_string_t *settings,
                                             exports_muster_policy_lifecycle_preparation_t *ret) {
  memset(ret, 0, sizeof *ret);
}

static exports_muster_policy_startup_step_t step(const exports_muster_policy_startup_group_t *group) {
  bool ready = false;
  for (size_t i = 0; i < group->pods.len; i++) {
    const exports_muster_policy_startup_pod_t *pod = &group->pods.ptr[i];
    ready |= pod->rank == 0 && pod->phase == EXPORTS_MUSTER_POLICY_STARTUP_PHASE_READY;
  }
  exports_muster_policy_startup_step_t step = {.group = group->index, .admit = ready ? group->size : 1};
  char message[128];
  if (ready) {
    snprintf(message, sizeof message, "the leader is ready, so all %u pods may start", (unsigned)group->size);
  } else {
    snprintf(message, sizeof message, "%u workers wait until the leader is ready", (unsigned)group->size - 1);
  }
  startup_policy_string_dup(&step.reason.code, ready ? "LeaderReady" : "WaitingForLeader");
  startup_policy_string_dup(&step.reason.message, message);
  return step;
}

bool exports_muster_policy_startup_next(startup_policy_string_t *settings, exports_muster_policy_startup_request_t *request,
                                        exports_muster_policy_startup_list_step_t *ret,
                                        exports_muster_policy_startup_failure_t *err) {
  ret->len = request->groups.len;
  ret->ptr = array(ret->len, sizeof *ret->ptr);
  for (size_t i = 0; i < ret->len; i++) ret->ptr[i] = step(&request->groups.ptr[i]);
  return true;
}
