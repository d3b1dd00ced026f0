{{- define "binlock.name" -}}
{{- default "binlock" .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* At most 40 characters: names of pods, which are labels of at most 63, are made from it. */}}
{{- define "binlock.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "binlock.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "binlock.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "binlock.selectorLabels" -}}
app.kubernetes.io/name: {{ include "binlock.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "binlock.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "binlock.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What a pod with a proxy beside its source or its replica is known by: to network policies and to scrapes. */}}
{{- define "binlock.sourceLabels" -}}
binlock/instance: {{ include "binlock.fullname" . }}
binlock/side: source
{{- end }}

{{- define "binlock.replicaLabels" -}}
binlock/instance: {{ include "binlock.fullname" . }}
binlock/side: replica
{{- end }}

{{- define "binlock.hasSource" -}}
{{- if or .Values.source.enabled .Values.proxy.sourceSide.enabled }}yes{{ end }}
{{- end }}

{{- define "binlock.hasReplica" -}}
{{- if or .Values.replicas.enabled .Values.proxy.replicaSide.enabled }}yes{{ end }}
{{- end }}

{{- define "binlock.image" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end }}
{{- end }}

{{/* The name that a source's certificate has, that its Service has, and that replicas dial. */}}
{{- define "binlock.sourceHost" -}}
{{ include "binlock.fullname" . }}-source.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* The domain of the replicas' pods, and with `certManager` the name of the certificate that they share. */}}
{{- define "binlock.replicaDomain" -}}
{{ include "binlock.fullname" . }}-replica.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- define "binlock.monitorHost" -}}
{{ include "binlock.fullname" . }}-monitor.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* (dict "root" . "of" "source") -> the secret with the certificate of source, replica, monitor or scraper. */}}
{{- define "binlock.secret" -}}
{{- if eq .root.Values.certificates.mode "secret" }}
{{- required (printf "certificates.secrets.%s: the name of a secret" .of) (index .root.Values.certificates.secrets .of) }}
{{- else }}
{{- include "binlock.fullname" .root }}-{{ .of }}-tls
{{- end }}
{{- end }}
