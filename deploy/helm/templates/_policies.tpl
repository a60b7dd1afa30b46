{{/* The policies that are part of the operator, by kind. */}}
{{- define "muster.builtIn.placement" -}}
colocate exclusive node-pool nvlink-domain spread sticky-avoid topology-pack tpu-slice
{{- end }}
{{- define "muster.builtIn.startup" -}}
all-placed leader-created leader-ready waves
{{- end }}

{{/*
The spec of a policy object, from kind, name and value. A value without a source means the built-in policy of that name.
*/}}
{{- define "muster.policySpec" -}}
{{- $kind := index . 0 }}
{{- $name := index . 1 }}
{{- $spec := index . 2 }}
{{- $known := splitList " " (include (printf "muster.builtIn.%s" $kind) .) }}
{{- if $spec.source }}
{{- toYaml $spec }}
{{- else if has $name $known }}
{{- toYaml (merge (dict "source" (dict "builtIn" $name)) $spec) }}
{{- else }}
{{- fail (printf "policies.%s.%s has no source, and no policy of that name is built in: add source, or choose one of %s" $kind $name (join ", " $known)) }}
{{- end }}
{{- end }}
