{{/* What each container here may do: as little as it can. (dict "uid" 1 "add" (list)) */}}
{{- define "binlock.containerSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  {{- with .add }}
  add: {{ toJson . }}
  {{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* (dict "root" . "side" "source") -> the proxy, to stand in a pod's `initContainers`: it runs before and after the
     server beside it. Ready before there is a server, so that a server may wait for it. */}}
{{- define "binlock.proxyContainer" -}}
{{- $values := .root.Values -}}
name: binlock
image: {{ include "binlock.image" $values.images.proxy | quote }}
imagePullPolicy: {{ $values.images.proxy.pullPolicy }}
restartPolicy: Always
args: [run, --config, /etc/binlock/proxy.toml]
ports:
  {{- if eq .side "source" }}
  - {name: binlock, containerPort: {{ $values.proxy.port }}}
  {{- end }}
  {{- if ne $values.admin.mode "loopback" }}
  - {name: binlock-admin, containerPort: {{ $values.admin.port }}}
  {{- end }}
{{- /* None of these reads files once the proxy has started: that would judge what a reload refused to take, and end a
       proxy that runs well with what it had. With `mtls` the command shows the proxy's own certificate at the start; later
       kubelet, which has none, only sees that the port answers. What is on loopback the command alone reaches. */}}
{{- $program := "/opt/binlock/bin/binlock-proxy" }}
{{- range $probe := list "startupProbe" "readinessProbe" "livenessProbe" }}
{{- $start := eq $probe "startupProbe" }}
{{- $live := eq $probe "livenessProbe" }}
{{ $probe }}:
  {{- if eq $values.admin.mode "loopback" }}
  exec: {command: [{{ $program }}, health, --admin, "127.0.0.1:{{ $values.admin.port }}"{{ if $live }}, --live{{ end }}]}
  {{- else if eq $values.admin.mode "unsafe" }}
  httpGet: {path: {{ ternary "/healthz" "/readyz" $live }}, port: binlock-admin}
  {{- else if $start }}
  exec: {command: [{{ $program }}, health]}
  {{- else }}
  tcpSocket: {port: binlock-admin}
  {{- end }}
  periodSeconds: {{ if $start }}2{{ else if $live }}20{{ else }}10{{ end }}
  timeoutSeconds: 5
  {{- if $start }}
  failureThreshold: 30
  {{- end }}
{{- end }}
resources: {{- toYaml $values.proxy.resources | nindent 2 }}
securityContext: {{- include "binlock.containerSecurity" (dict "uid" $values.proxy.uid) | nindent 2 }}
volumeMounts:
  - {name: binlock, mountPath: /etc/binlock, readOnly: true}
  {{- if eq $values.certificates.mode "csi" }}
  - {name: binlock-tls, mountPath: /run/binlock, readOnly: true}
  {{- end }}
  {{- if and (eq .side "source") (hasPrefix "unix:" $values.proxy.sourceSide.address) }}
  - {name: mysqld, mountPath: {{ $values.proxy.sourceSide.address | trimPrefix "unix:" | dir }}}
  {{- end }}
{{- end }}

{{- define "binlock.sourceSidecar" -}}
{{ include "binlock.proxyContainer" (dict "root" . "side" "source") }}
{{- end }}

{{- define "binlock.replicaSidecar" -}}
{{ include "binlock.proxyContainer" (dict "root" . "side" "replica") }}
{{- end }}

{{/* The volumes of the proxy beside a source or a replica. One projection, so that kubelet swaps configuration and
     certificates in one step; a volume of the CSI driver cannot be part of one. */}}
{{- define "binlock.proxyVolumes" -}}
{{- $values := .root.Values -}}
- name: binlock
  projected:
    defaultMode: 0440
    sources:
      - configMap: {name: {{ include "binlock.fullname" .root }}-{{ .side }}, items: [{key: proxy.toml, path: proxy.toml}]}
      {{- if ne $values.certificates.mode "csi" }}
      - secret:
          name: {{ include "binlock.secret" (dict "root" .root "of" .side) }}
          items: [{key: tls.crt, path: tls/tls.crt}, {key: tls.key, path: tls/tls.key}, {key: ca.crt, path: tls/ca.crt}]
      {{- end }}
      {{- with $values.certificates.crlConfigMap }}
      - configMap: {name: {{ . }}, items: [{key: ca.crl, path: crl/ca.crl}]}
      {{- end }}
{{- if eq $values.certificates.mode "csi" }}
- name: binlock-tls
  csi:
    driver: csi.cert-manager.io
    readOnly: true
    volumeAttributes:
      csi.cert-manager.io/issuer-name: {{ required "certificates.issuerRef.name: who signs" $values.certificates.issuerRef.name | quote }}
      csi.cert-manager.io/issuer-kind: {{ $values.certificates.issuerRef.kind | quote }}
      csi.cert-manager.io/issuer-group: {{ $values.certificates.issuerRef.group | quote }}
      csi.cert-manager.io/duration: {{ $values.certificates.duration | quote }}
      csi.cert-manager.io/renew-before: {{ $values.certificates.renewBefore | quote }}
      csi.cert-manager.io/key-usages: "digital signature,server auth,client auth"
      csi.cert-manager.io/fs-group: {{ $values.proxy.uid | quote }}
      {{- if eq .side "source" }}
      csi.cert-manager.io/dns-names: {{ include "binlock.sourceHost" .root | quote }}
      {{- else }}
      csi.cert-manager.io/dns-names: {{ printf "${POD_NAME}.%[1]s,%[1]s" (include "binlock.replicaDomain" .root) | quote }}
      {{- end }}
{{- end }}
{{- end }}

{{/* These need a volume `mysqld` beside them, an emptyDir that the server keeps its socket in. */}}
{{- define "binlock.sourceVolumes" -}}
{{ include "binlock.proxyVolumes" (dict "root" . "side" "source") }}
{{- end }}

{{- define "binlock.replicaVolumes" -}}
{{ include "binlock.proxyVolumes" (dict "root" . "side" "replica") }}
{{- end }}
