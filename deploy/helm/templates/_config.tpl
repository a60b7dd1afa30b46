{{/* The operator's configuration file; the Deployment carries its checksum, so that a change restarts the pods. */}}
{{- define "muster.config" -}}
{{- pick .Values "concurrency" "defaults" "placement" "policyHost" | toYaml }}
{{- end }}
