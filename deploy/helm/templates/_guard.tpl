{{/*
Two operators for LeaderWorkerSets fight over the same StatefulSets and pods, so an install beside another one is refused.
Works on a live cluster only: `helm template` and `helm lint` see no objects.
*/}}
{{- define "muster.refuseSecondOperator" -}}
{{- if not .Values.allowOtherOperators }}
{{- $mine := printf "%s/%s" .Release.Namespace .Release.Name }}
{{- range (lookup "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "" "").items }}
{{- $name := .metadata.name }}
{{- if eq $name "lws-mutating-webhook-configuration" }}
{{- fail (printf "kubernetes-sigs/lws runs in this cluster (MutatingWebhookConfiguration %q). Scale its Deployment to 0 and delete its two webhook configurations first (running pods are kept), or set allowOtherOperators=true" $name) }}
{{- end }}
{{- $annotations := default dict .metadata.annotations }}
{{- $owner := printf "%s/%s" (get $annotations "meta.helm.sh/release-namespace") (get $annotations "meta.helm.sh/release-name") }}
{{- range .webhooks }}
{{- if and (eq .name "pod.mutate.muster.dev") (ne $owner $mine) }}
{{- fail (printf "another release of Muster runs in this cluster (MutatingWebhookConfiguration %q). One operator serves all namespaces: uninstall the other release, or set allowOtherOperators=true" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
