// Startup policy rank-waves: the ranks of a group start in waves of so many; a wave starts when the one before it is ready.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "startup_policy.h"

#define DEFAULT_WAVE 8

// The operator frees what a policy returns by calling back into these bindings, so everything returned is allocated.
static void *array(size_t length, size_t size) {
  void *memory = calloc(length ? length : 1, size);
  if (!memory) abort();
  return memory;
}

// The size of a wave, 0 if the settings are wrong. Settings come without white space, so there are two ways to write them.
static unsigned wave_of(const startup_policy_string_t *settings) {
  char text[64] = {0};
  unsigned wave = 0;
  int end = 0;
  if (settings->len >= sizeof text) return 0;
  memcpy(text, settings->ptr, settings->len);
  if (strcmp(text, "{}") == 0) return DEFAULT_WAVE;
  if (sscanf(text, "{\"wave\":%6u}%n", &wave, &end) == 1 && (size_t)end == settings->len) return wave;
  return 0;
}

void exports_muster_policy_lifecycle_describe(exports_muster_policy_lifecycle_descriptor_t *ret) {
  startup_policy_string_dup(&ret->name, "rank-waves");
  startup_policy_string_dup(&ret->version, "0.1.0");
  startup_policy_string_dup(&ret->settings_schema, "");
}

void exports_muster_policy_lifecycle_validate_settings(startup_policy_string_t *settings,
                                                       exports_muster_policy_lifecycle_list_settings_error_t *ret) {
  ret->len = wave_of(settings) == 0;
  ret->ptr = array(ret->len, sizeof *ret->ptr);
  if (ret->len) {
    startup_policy_string_dup(&ret->ptr[0].path, "/wave");
    startup_policy_string_dup(&ret->ptr[0].message, "the only setting is wave, a number from 1 to 999999, such as {\"wave\": 8}");
  }
}

void exports_muster_policy_lifecycle_prepare(startup_policy_string_t *settings,
                                             exports_muster_policy_lifecycle_preparation_t *ret) {
  memset(ret, 0, sizeof *ret);
}

static exports_muster_policy_startup_step_t step(const exports_muster_policy_startup_group_t *group, unsigned wave) {
  // How many ranks are ready without a gap, from the leader on: pods come in the order of their ranks.
  unsigned ready = 0;
  for (size_t i = 0; i < group->pods.len; i++) {
    const exports_muster_policy_startup_pod_t *pod = &group->pods.ptr[i];
    if (pod->rank != ready || pod->phase != EXPORTS_MUSTER_POLICY_STARTUP_PHASE_READY) break;
    ready++;
  }
  unsigned size = group->size;
  unsigned next = (ready / wave + 1) * wave;
  exports_muster_policy_startup_step_t step = {.group = group->index, .admit = next < size ? next : size};
  char message[128];
  snprintf(message, sizeof message, "%u of %u ranks are ready, so %u may start", ready, size, (unsigned)step.admit);
  startup_policy_string_dup(&step.reason.code, step.admit == size ? "LastWave" : "Wave");
  startup_policy_string_dup(&step.reason.message, message);
  return step;
}

bool exports_muster_policy_startup_next(startup_policy_string_t *settings, exports_muster_policy_startup_request_t *request,
                                        exports_muster_policy_startup_list_step_t *ret,
                                        exports_muster_policy_startup_failure_t *err) {
  unsigned wave = wave_of(settings);
  ret->len = request->groups.len;
  ret->ptr = array(ret->len, sizeof *ret->ptr);
  for (size_t i = 0; i < ret->len; i++) ret->ptr[i] = step(&request->groups.ptr[i], wave ? wave : DEFAULT_WAVE);
  return true;
}
