{{/* Names and labels that the other templates share. */}}

{{- define "muster.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Room is left for the suffix "-webhook-cert" in 63 characters. */}}
{{- define "muster.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "muster.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* For what has no namespace: two releases of one name in two namespaces must not meet. */}}
{{- define "muster.clusterName" -}}
{{- printf "%s.%s" (include "muster.fullname" .) .Release.Namespace }}
{{- end }}

{{- define "muster.webhookService" -}}
{{- printf "%s-webhook" (include "muster.fullname" .) }}
{{- end }}

{{- define "muster.certSecret" -}}
{{- printf "%s-webhook-cert" (include "muster.fullname" .) }}
{{- end }}

{{- define "muster.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "muster.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name the existing ServiceAccount, because serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "muster.selectorLabels" -}}
app.kubernetes.io/name: {{ include "muster.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "muster.labels" -}}
{{ include "muster.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Where the API server sends admission requests; called with (list $ "/path"). */}}
{{- define "muster.clientConfig" -}}
{{- $path := index . 1 -}}
{{- with index . 0 -}}
{{- if .Values.webhook.url -}}
url: {{ printf "%s%s" (trimSuffix "/" .Values.webhook.url) $path | quote }}
{{- else -}}
service:
  name: {{ include "muster.webhookService" . }}
  namespace: {{ .Release.Namespace }}
  path: {{ $path }}
  port: 443
{{- end }}
{{- end }}
{{- end }}
