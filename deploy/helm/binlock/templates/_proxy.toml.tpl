{{/* The proxies' configuration. JSON's strings, numbers, booleans and lists are TOML's too. */}}

{{- define "binlock.tlsFolder" -}}
{{ ternary "/run/binlock" "tls" (eq .Values.certificates.mode "csi") }}
{{- end }}

{{- define "binlock.tlsKeys" -}}
{{- $folder := include "binlock.tlsFolder" . }}
certificate = {{ printf "%s/tls.crt" $folder | toJson }}
key = {{ printf "%s/tls.key" $folder | toJson }}
ca = {{ printf "%s/ca.crt" $folder | toJson }}
{{- if .Values.certificates.crlConfigMap }}
crl = ["crl/ca.crl"]
{{- end }}
{{- end }}

{{- define "binlock.proxyHead" -}}
[admin]
{{- if eq .Values.admin.mode "loopback" }}
listen = {{ printf "127.0.0.1:%v" .Values.admin.port | toJson }}
{{- else }}
listen = {{ printf "%s:%v" .Values.listenAddress .Values.admin.port | toJson }}
{{- end }}
{{- if eq .Values.admin.mode "unsafe" }}
unsafe_listen = true
{{- end }}
{{- if eq .Values.admin.mode "mtls" }}

[admin.tls]
{{- include "binlock.tlsKeys" . }}
{{- end }}

[log]
level = {{ toJson .Values.proxy.logLevel }}
{{- with .Values.proxy.limits }}

[limits]
{{- range $key, $value := . }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end }}

{{- define "binlock.sourceConfiguration" -}}
{{- if not .Values.proxy.allow }}
{{- fail "proxy.allow: the networks that replicas connect from, such as the pods' network" }}
{{- end }}
{{- if not (or .Values.replicas.enabled .Values.proxy.roster) }}
{{- fail "proxy.roster: who may replicate; nothing is allowed by default" }}
{{- end }}
{{ include "binlock.proxyHead" . }}

[[route]]
name = "source"
listen = {{ printf "%s:%v" .Values.listenAddress .Values.proxy.port | toJson }}
allow = {{ toJson .Values.proxy.allow }}
enforce = {{ .Values.proxy.enforce }}
policy = {{ toJson .Values.proxy.policy }}

[route.replica_tls]
{{- include "binlock.tlsKeys" . }}

[route.source]
address = {{ toJson .Values.proxy.sourceSide.address }}
{{- $root := . }}
{{- if .Values.replicas.enabled }}
{{- $ids := list }}
{{- range $number := until (int .Values.replicas.count) }}
{{- $id := printf "%v%d" $root.Values.replicas.serverIdPrefix $number | int }}
{{- $ids = append $ids $id }}
{{- if eq $root.Values.certificates.mode "csi" }}

[[route.replica]]
identity = {{ printf "%s-replica-%d.%s" (include "binlock.fullname" $root) $number (include "binlock.replicaDomain" $root) | toJson }}
accounts = {{ toJson $root.Values.proxy.accounts }}
server_ids = [{{ $id }}]
{{- end }}
{{- end }}
{{- if ne .Values.certificates.mode "csi" }}

[[route.replica]]
identity = {{ include "binlock.replicaDomain" . | toJson }}
accounts = {{ toJson .Values.proxy.accounts }}
server_ids = {{ toJson $ids }}
{{- end }}
{{- end }}
{{- range .Values.proxy.roster }}

[[route.replica]]
{{- range $key, $value := . }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end }}

{{- define "binlock.replicaConfiguration" -}}
{{ include "binlock.proxyHead" . }}

[[route]]
name = "replica"
listen = {{ printf "127.0.0.1:%v" .Values.proxy.port | toJson }}
allow = ["127.0.0.0/8"]
enforce = {{ .Values.proxy.enforce }}
policy = {{ toJson .Values.proxy.policy }}

[route.source]
address = {{ default (printf "%s:%v" (include "binlock.sourceHost" .) .Values.proxy.port) .Values.proxy.replicaSide.address | toJson }}

[route.source.tls]
{{- include "binlock.tlsKeys" . }}

[[route.replica]]
name = "replica"
accounts = {{ toJson .Values.proxy.accounts }}
{{- end }}
