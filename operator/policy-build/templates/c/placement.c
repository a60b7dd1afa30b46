// Placement policy {{name}}: every group inside one domain of one node label, in the one with the least room left over.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "placement_policy.h"

// What can be set, as a JSON Schema: the operator holds settings against it and names the field that is wrong. `level` is the node
// label whose values are the domains.
#define SCHEMA                                                                                                                \
  "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"level\":{\"type\":\"string\","                        \
  "\"pattern\":\"^[A-Za-z0-9][A-Za-z0-9./_-]*$\",\"maxLength\":300,\"default\":\"topology.kubernetes.io/zone\"}}}"
#define NONE UINT32_MAX

typedef char text_t[301];

// The text of a field of the settings, or what it is without the field. Settings are JSON without white space, and the schema lets no
// text in that has a quotation mark in it; settings with more to them want a JSON library.
static void setting(const placement_policy_string_t *settings, const char *name, const char *otherwise, text_t value) {
  text_t field;
  size_t length = (size_t)snprintf(field, sizeof field, "\"%s\":\"", name);
  snprintf(value, sizeof(text_t), "%s", otherwise);
  for (size_t at = 0; at + length < settings->len; at++) {
    const char *text = (const char *)settings->ptr + at + length;
    const char *end = memcmp(text - length, field, length) ? NULL : memchr(text, '"', settings->len - at - length);
    if (end) snprintf(value, sizeof(text_t), "%.*s", (int)(end - text), text);
  }
}

static void level_of(const placement_policy_string_t *settings, text_t level) {
  setting(settings, "level", "topology.kubernetes.io/zone", level);
}

// The operator frees what a policy returns by calling back into these bindings, so everything returned is allocated.
static void *array(size_t length, size_t size) {
  void *memory = calloc(length ? length : 1, size);
  if (!memory) abort();
  return memory;
}

void exports_muster_policy_lifecycle_describe(exports_muster_policy_lifecycle_descriptor_t *ret) {
  placement_policy_string_dup(&ret->name, "{{name}}");
  placement_policy_string_dup(&ret->version, "0.1.0");
  placement_policy_string_dup(&ret->settings_schema, SCHEMA);
}

void exports_muster_policy_lifecycle_validate_settings(placement_policy_string_t *settings,
                                                       exports_muster_policy_lifecycle_list_settings_error_t *ret) {
  // There is nothing that the schema can't say.
  ret->len = 0;
  ret->ptr = array(0, sizeof *ret->ptr);
}

void exports_muster_policy_lifecycle_prepare(placement_policy_string_t *settings,
                                             exports_muster_policy_lifecycle_preparation_t *ret) {
  text_t level;
  level_of(settings, level);
  memset(ret, 0, sizeof *ret);
  ret->levels.len = 1;
  ret->levels.ptr = array(1, sizeof *ret->levels.ptr);
  placement_policy_string_dup(&ret->levels.ptr[0], level);
}

// What this call gave away already. The snapshot does not change while it runs, so the policy counts for itself.
typedef struct {
  uint32_t *domains;
  size_t count;
  // All pods that were put into the last of them.
  muster_policy_cluster_demand_t *pods;
  size_t kinds;
} given_t;

static bool contains(const uint32_t *domains, size_t count, uint32_t domain) {
  for (size_t i = 0; i < count; i++) {
    if (domains[i] == domain) return true;
  }
  return false;
}

static uint32_t give(given_t *given, uint32_t domain, const exports_muster_policy_placement_unit_t *unit) {
  given->domains[given->count++] = domain;
  given->kinds = unit->pods.len;
  memcpy(given->pods, unit->pods.ptr, unit->pods.len * sizeof *given->pods);
  return domain;
}

// The domain for a unit, NONE if there is no room.
static uint32_t choose(const exports_muster_policy_placement_unit_t *unit, muster_policy_cluster_borrow_snapshot_t view,
                       uint32_t level, bool exclusive, given_t *given) {
  if (unit->current.is_some && unit->current.val.domains.ptr[level] != NONE) {
    // New pods join those that run already.
    return give(given, unit->current.val.domains.ptr[level], unit);
  }
  muster_policy_cluster_list_domain_id_t best = {0};
  if (given->count > 0 && !exclusive) {
    // Is there still room where the unit before this one went, for both of them?
    uint32_t last = given->domains[given->count - 1];
    memcpy(given->pods + given->kinds, unit->pods.ptr, unit->pods.len * sizeof *given->pods);
    muster_policy_cluster_list_demand_t together = {given->pods, given->kinds + unit->pods.len};
    muster_policy_cluster_method_snapshot_best_domains(view, level, &together, false, 1024, &best);
    bool fits = contains(best.ptr, best.len, last);
    muster_policy_cluster_list_domain_id_free(&best);
    if (fits) {
      given->kinds += unit->pods.len;
      return last;
    }
  }
  // One more than were given away: one of them is still free.
  muster_policy_cluster_list_demand_t pods = {unit->pods.ptr, unit->pods.len};
  muster_policy_cluster_method_snapshot_best_domains(view, level, &pods, exclusive, given->count + 1, &best);
  uint32_t domain = NONE;
  for (size_t i = 0; i < best.len && domain == NONE; i++) {
    if (!contains(given->domains, given->count, best.ptr[i])) domain = best.ptr[i];
  }
  muster_policy_cluster_list_domain_id_free(&best);
  return domain == NONE ? NONE : give(given, domain, unit);
}

static exports_muster_policy_placement_answer_t answer(const exports_muster_policy_placement_unit_t *unit,
                                                       muster_policy_cluster_borrow_snapshot_t view, const char *key,
                                                       uint32_t level, uint32_t domain) {
  exports_muster_policy_placement_answer_t answer = {.unit = unit->id};
  unsigned pods = 0;
  for (size_t i = 0; i < unit->pods.len; i++) pods += unit->pods.ptr[i].pods;

  char message[512];
  if (domain == NONE) {
    answer.decision.tag = EXPORTS_MUSTER_POLICY_PLACEMENT_DECISION_HOLD;
    answer.decision.val.hold = 30000;
    snprintf(message, sizeof message, "no domain of %s has room for %u pods", key, pods);
    placement_policy_string_dup(&answer.reason.code, "NoRoom");
  } else {
    answer.decision.tag = EXPORTS_MUSTER_POLICY_PLACEMENT_DECISION_WITHIN;
    exports_muster_policy_placement_list_location_t *within = &answer.decision.val.within;
    within->len = 1;
    within->ptr = array(1, sizeof *within->ptr);
    within->ptr[0].level = level;
    within->ptr[0].domain = domain;
    placement_policy_string_t name;
    muster_policy_cluster_method_snapshot_domain_name(view, level, domain, &name);
    snprintf(message, sizeof message, "%.*s has room for %u pods, with the least left over", (int)name.len, (char *)name.ptr,
             pods);
    placement_policy_string_free(&name);
    placement_policy_string_dup(&answer.reason.code, "LeastLeftOver");
  }
  placement_policy_string_dup(&answer.reason.message, message);
  return answer;
}

bool exports_muster_policy_placement_place(placement_policy_string_t *settings,
                                           exports_muster_policy_placement_borrow_snapshot_t view,
                                           exports_muster_policy_placement_request_t *request,
                                           exports_muster_policy_placement_list_answer_t *ret,
                                           exports_muster_policy_placement_failure_t *err) {
  // What `prepare` named comes first among the levels. A set that wants domains for itself says at which level.
  text_t key;
  level_of(settings, key);
  bool exclusive = request->exclusive.is_some;
  uint32_t level = exclusive ? request->exclusive.val : 0;
  size_t kinds = 0;
  for (size_t i = 0; i < request->units.len; i++) kinds += request->units.ptr[i].pods.len;
  given_t given = {.domains = array(request->units.len, sizeof *given.domains), .pods = array(kinds, sizeof *given.pods)};

  ret->len = request->units.len;
  ret->ptr = array(ret->len, sizeof *ret->ptr);
  for (size_t i = 0; i < ret->len; i++) {
    const exports_muster_policy_placement_unit_t *unit = &request->units.ptr[i];
    ret->ptr[i] = answer(unit, view, key, level, choose(unit, view, level, exclusive, &given));
  }
  free(given.domains);
  free(given.pods);
  // The snapshot is lent for this call and must be given back.
  muster_policy_cluster_snapshot_drop_borrow(view);
  return true;
}
