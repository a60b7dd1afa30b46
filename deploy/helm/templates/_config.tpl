{{/* The scheduler that binds groups as a whole, by our name or by upstream's; empty means none. */}}
{{- define "muster.gangProvider" -}}
{{- $ours := .Values.gangScheduling.provider }}
{{- $upstreams := default "" .Values.gangSchedulingManagement.schedulerProvider }}
{{- if and $ours $upstreams (ne $ours $upstreams) }}
{{- fail (printf "gangScheduling.provider is %q and gangSchedulingManagement.schedulerProvider is %q: they mean the same, so set one of them" $ours $upstreams) }}
{{- end }}
{{- default $upstreams $ours }}
{{- end }}

{{/* The operator's configuration file; the Deployment carries its checksum, so that a change restarts the pods. */}}
{{- define "muster.config" -}}
{{- pick .Values "concurrency" "defaults" "placement" | toYaml }}
policyHost:
  {{- omit .Values.policyHost "secrets" | toYaml | nindent 2 }}
{{- with include "muster.gangProvider" . }}
gangScheduling:
  provider: {{ . }}
{{- end }}
{{- end }}
