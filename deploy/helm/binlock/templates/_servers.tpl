{{/* The servers of this chart's own pods: the official images of MySQL and MariaDB. */}}

{{- define "binlock.isMariadb" -}}
{{- if eq .Values.source.flavour "mariadb" }}yes{{ end }}
{{- end }}

{{/* Both images run as this user if they are told to, and need no root then. */}}
{{- define "binlock.serverUid" -}}999{{- end }}

{{/* (dict "root" . "of" .Values.source "side" "source" "serverId" "1") */}}
{{- define "binlock.serverContainer" -}}
{{- $mariadb := include "binlock.isMariadb" .root }}
{{- $prefix := ternary "MARIADB" "MYSQL" (eq $mariadb "yes") -}}
name: server
image: {{ .root.Values.source.image | quote }}
args:
  - {{ ternary "mariadbd" "mysqld" (eq $mariadb "yes") }}
  - --server-id={{ .serverId }}
  - --socket=/run/mysqld/mysqld.sock
  - --pid-file=/run/mysqld/mysqld.pid
  - --secure-file-priv=/var/lib/mysql-files
  - --log-bin=binlog
  {{- if $mariadb }}
  - --log-slave-updates
  {{- else }}
  - --gtid-mode=ON
  - --enforce-gtid-consistency=ON
  - --mysqlx=OFF
  {{- end }}
  {{- if eq .side "replica" }}
  - --read-only=ON
  {{- end }}
  {{- range .of.extraArgs }}
  - {{ . | quote }}
  {{- end }}
env:
  - name: {{ $prefix }}_ROOT_PASSWORD
    valueFrom: {secretKeyRef: {name: {{ .root.Values.source.passwords }}, key: root-password}}
  - name: REPLICATION_PASSWORD
    valueFrom: {secretKeyRef: {name: {{ .root.Values.source.passwords }}, key: replication-password}}
  {{- if eq .side "replica" }}
  - name: POD_INDEX
    valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}
  {{- end }}
ports:
  - {name: mysql, containerPort: 3306}
{{- /* Over TCP, which is there when the server has been initialised. It exits with 0 where it may not log in, too. */}}
{{- $ping := printf "{command: [%s, ping, --protocol=tcp, --host=127.0.0.1, --silent]}" (ternary "mariadb-admin" "mysqladmin" (eq $mariadb "yes")) }}
startupProbe:
  exec: {{ $ping }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 120
readinessProbe:
  exec: {{ $ping }}
  timeoutSeconds: 5
livenessProbe:
  exec: {{ $ping }}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
resources: {{- toYaml .of.resources | nindent 2 }}
securityContext: {{- include "binlock.containerSecurity" (dict "uid" (include "binlock.serverUid" .root | int)) | nindent 2 }}
volumeMounts:
  - {name: data, mountPath: /var/lib/mysql}
  - {name: mysqld, mountPath: /run/mysqld}
  - {name: files, mountPath: /var/lib/mysql-files}
  - {name: tmp, mountPath: /tmp}
  - {name: initialise, mountPath: /docker-entrypoint-initdb.d, readOnly: true}
{{- end }}

{{/* (dict "root" . "side" "source") */}}
{{- define "binlock.serverVolumes" -}}
- name: mysqld
  emptyDir: {sizeLimit: 16Mi}
- name: files
  emptyDir: {sizeLimit: 1Gi}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
- name: initialise
  configMap: {name: {{ include "binlock.fullname" .root }}-{{ .side }}-initialise}
{{- end }}

{{- define "binlock.serverPodSecurity" -}}
runAsNonRoot: true
fsGroup: {{ include "binlock.serverUid" . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "binlock.dataClaim" -}}
- metadata: {name: data}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .storage.storageClassName }}
    storageClassName: {{ . }}
    {{- end }}
    resources: {requests: {storage: {{ .storage.size }}}}
{{- end }}
