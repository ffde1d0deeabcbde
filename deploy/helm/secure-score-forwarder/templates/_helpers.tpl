{{/* The name of all objects. The name of a CronJob has at most 52 characters. */}}
{{- define "secure-score-forwarder.fullname" -}}
{{- $name := printf "%s-%s" .Release.Name .Chart.Name -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- $name = .Release.Name -}}
{{- end -}}
{{- .Values.fullnameOverride | default $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "secure-score-forwarder.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "secure-score-forwarder.labels" -}}
{{ include "secure-score-forwarder.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A tag can refer to another image later, so it is never a default. */}}
{{- define "secure-score-forwarder.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else if .Values.image.tag -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- else -}}
{{- fail "`image.digest` is empty: set it to the digest of the image, or set `image.tag` to select the image by a tag" -}}
{{- end -}}
{{- end -}}

{{/* The files of sinks.d and tenants.d, by the name of their directory, without empty ones. A key of a ConfigMap cannot contain a path, so each directory is a ConfigMap. */}}
{{- define "secure-score-forwarder.directories" -}}
{{- $directories := dict -}}
{{- with .Values.sinksD -}}{{- $_ := set $directories "sinks" . -}}{{- end -}}
{{- with .Values.tenantsD -}}{{- $_ := set $directories "tenants" . -}}{{- end -}}
{{- toJson $directories -}}
{{- end -}}

{{- define "secure-score-forwarder.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "secure-score-forwarder.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Rejects a value that has an effect only for the daemon. Expects the root as `root` and the name of the value as `value`. */}}
{{- define "secure-score-forwarder.requireDaemon" -}}
{{- if ne .root.Values.workload "deployment" -}}
{{- fail (printf "`%s` requires `workload: deployment`: the CronJob serves no metrics" .value) -}}
{{- end -}}
{{- end -}}

{{/* The template of the pod, for the Deployment and for the CronJob. */}}
{{- define "secure-score-forwarder.pod" -}}
{{- $isDaemon := eq .Values.workload "deployment" -}}
{{- $fullname := include "secure-score-forwarder.fullname" . -}}
{{- $directories := include "secure-score-forwarder.directories" . | fromJson -}}
metadata:
  labels:
    {{- include "secure-score-forwarder.selectorLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed configuration replaces the pod.
    checksum/config: {{ dict "config" .Values.config "files" .Values.files "directories" $directories | toJson | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if $isDaemon }}
  terminationGracePeriodSeconds: 30
  {{- else }}
  restartPolicy: Never
  {{- end }}
  serviceAccountName: {{ include "secure-score-forwarder.serviceAccountName" . }}
  automountServiceAccountToken: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: forwarder
      image: {{ include "secure-score-forwarder.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - {{ ternary "run" "once" $isDaemon }}
        - --log-format
        - json
        {{- if not (and $isDaemon (eq .Values.logLevel "info")) }}
        - --log
        - {{ .Values.logLevel }}
        {{- end }}
      {{- with .Values.env }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $isDaemon }}
      ports:
        - name: admin
          containerPort: 9633
      {{- end }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      {{- if $isDaemon }}
      startupProbe:
        httpGet: { path: /healthz, port: admin }
        failureThreshold: 30
        periodSeconds: 2
      livenessProbe:
        httpGet: { path: /healthz, port: admin }
        periodSeconds: 60
        timeoutSeconds: 5
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 60
        timeoutSeconds: 10
      {{- end }}
      volumeMounts:
        - { name: config, mountPath: /etc/secure-score-forwarder/config.toml, subPath: config.toml, readOnly: true }
        {{- range $name, $_ := .Values.files }}
        - { name: config, mountPath: {{ printf "/etc/secure-score-forwarder/%s" $name | quote }}, subPath: {{ $name | quote }}, readOnly: true }
        {{- end }}
        {{- range $name, $_ := $directories }}
        - { name: {{ $name }}-d, mountPath: /etc/secure-score-forwarder/{{ $name }}.d, readOnly: true }
        {{- end }}
        {{- if .Values.secrets }}
        - { name: secrets, mountPath: /etc/secure-score-forwarder/secrets, readOnly: true }
        {{- end }}
        - { name: state, mountPath: /var/lib/secure-score-forwarder }
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ $fullname }}
    {{- range $name, $_ := $directories }}
    - name: {{ $name }}-d
      configMap:
        name: {{ $fullname }}-{{ $name }}
    {{- end }}
    {{- with .Values.secrets }}
    - name: secrets
      projected:
        # 0440: the group of the pod can read the files.
        defaultMode: 288
        sources:
          {{- range . }}
          - secret:
              {{- toYaml . | nindent 14 }}
          {{- end }}
    {{- end }}
    - name: state
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim | default $fullname }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
