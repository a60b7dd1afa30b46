// Placement policy {{name}}: every group inside one zone, in the one with the least room left over.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "placement_policy.h"

// The node label whose values are the domains.
#define LEVEL "topology.kubernetes.io/zone"
#define NONE UINT32_MAX

// The operator frees what a policy returns by calling back into these bindings, so everything returned is allocated.
static void *array(size_t length, size_t size) {
  void *memory = calloc(length ? length : 1, size);
  if (!memory) abort();
  return memory;
}

void exports_muster_policy_lifecycle_describe(exports_muster_policy_lifecycle_descriptor_t *ret) {
  placement_policy_string_dup(&ret->name, "{{name}}");
  placement_policy_string_dup(&ret->version, "0.1.0");
  placement_policy_string_dup(&ret->settings_schema, "");
}

void exports_muster_policy_lifecycle_validate_settings(placement_policy_string_t *settings,
                                                       exports_muster_policy_lifecycle_list_settings_error_t *ret) {
  // Without settings the document is {}.
  ret->len = !(settings->len == 2 && memcmp(settings->ptr, "{}", 2) == 0);
  ret->ptr = array(ret->len, sizeof *ret->ptr);
  if (ret->len) {
    placement_policy_string_dup(&ret->ptr[0].path, "");
    placement_policy_string_dup(&ret->ptr[0].message, "{{name}} has no settings; leave them out");
  }
}

void exports_muster_policy_lifecycle_prepare(placement_policy_string_t *settings,
                                             exports_muster_policy_lifecycle_preparation_t *ret) {
  memset(ret, 0, sizeof *ret);
  ret->levels.len = 1;
  ret->levels.ptr = array(1, sizeof *ret->levels.ptr);
  placement_policy_string_dup(&ret->levels.ptr[0], LEVEL);
}

static exports_muster_policy_placement_answer_t answer(exports_muster_policy_placement_unit_t *unit,
                                                       muster_policy_cluster_borrow_snapshot_t view, uint32_t level,
                                                       bool exclusive) {
  exports_muster_policy_placement_answer_t answer = {.unit = unit->id};
  unsigned pods = 0;
  for (size_t i = 0; i < unit->pods.len; i++) pods += unit->pods.ptr[i].pods;

  muster_policy_cluster_list_domain_id_t domains = {0};
  if (unit->current.is_some && unit->current.val.domains.ptr[level] != NONE) {
    // New pods join those that run already.
    domains.len = 1;
    domains.ptr = array(1, sizeof *domains.ptr);
    domains.ptr[0] = unit->current.val.domains.ptr[level];
  } else {
    // The operator takes the first that still has room when it comes to this answer, so there is no need to count.
    muster_policy_cluster_list_demand_t demands = {unit->pods.ptr, unit->pods.len};
    muster_policy_cluster_method_snapshot_best_domains(view, level, &demands, exclusive, 64, &domains);
  }

  char message[256];
  if (domains.len == 0) {
    answer.decision.tag = EXPORTS_MUSTER_POLICY_PLACEMENT_DECISION_HOLD;
    answer.decision.val.hold = 30000;
    snprintf(message, sizeof message, "no domain of " LEVEL " has room for %u pods", pods);
    placement_policy_string_dup(&answer.reason.code, "NoRoom");
  } else {
    answer.decision.tag = EXPORTS_MUSTER_POLICY_PLACEMENT_DECISION_WITHIN;
    exports_muster_policy_placement_list_location_t *within = &answer.decision.val.within;
    within->len = domains.len;
    within->ptr = array(domains.len, sizeof *within->ptr);
    for (size_t i = 0; i < domains.len; i++) {
      within->ptr[i].level = level;
      within->ptr[i].domain = domains.ptr[i];
    }
    placement_policy_string_t name;
    muster_policy_cluster_method_snapshot_domain_name(view, level, domains.ptr[0], &name);
    snprintf(message, sizeof message, "%.*s has room for %u pods, with the least left over", (int)name.len, (char *)name.ptr,
             pods);
    placement_policy_string_free(&name);
    placement_policy_string_dup(&answer.reason.code, "LeastLeftOver");
  }
  placement_policy_string_dup(&answer.reason.message, message);
  muster_policy_cluster_list_domain_id_free(&domains);
  return answer;
}

bool exports_muster_policy_placement_place(placement_policy_string_t *settings,
                                           exports_muster_policy_placement_borrow_snapshot_t view,
                                           exports_muster_policy_placement_request_t *request,
                                           exports_muster_policy_placement_list_answer_t *ret,
                                           exports_muster_policy_placement_failure_t *err) {
  // What `prepare` named comes first among the levels. A set that wants domains for itself says at which level.
  uint32_t level = request->exclusive.is_some ? request->exclusive.val : 0;
  ret->len = request->units.len;
  ret->ptr = array(ret->len, sizeof *ret->ptr);
  for (size_t i = 0; i < ret->len; i++) ret->ptr[i] = answer(&request->units.ptr[i], view, level, request->exclusive.is_some);
  // The snapshot is lent for this call and must be given back.
  muster_policy_cluster_snapshot_drop_borrow(view);
  return true;
}
