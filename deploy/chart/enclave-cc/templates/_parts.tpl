{{- /* Every workload is made of these: what differs from one to another stands in its own file. */ -}}

{{- define "image" -}}
{{- if not .digest }}{{ fail (printf "%s.digest is needed: sha256:... of the image %s; a tag can be moved" .value .repository) }}{{ end -}}
{{ .repository }}@{{ .digest }}
{{- end }}

{{- define "own-image" -}}
{{ include "image" (dict "repository" .Values.image.repository "digest" .Values.image.digest "value" "image") }}
{{- end }}

{{- define "labels" -}}
app.kubernetes.io/part-of: enclave-cc
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "metadata" -}}
name: enclave-cc-{{ .part }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "pod" -}}
serviceAccountName: enclave-cc-{{ .part }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "confined" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: {{ .when | default "ScheduleAnyway" }}
    labelSelector:
      matchLabels:
        {{- include "labels" . | nindent 8 }}
{{- end }}

{{- define "client-mounts" -}}
- name: settings
  mountPath: /etc/enclave-cc/client.toml
  subPath: {{ . }}.toml
  readOnly: true
- name: bus
  mountPath: /etc/enclave-cc/bus
  readOnly: true
{{- end }}

{{- define "client-volumes" -}}
- name: settings
  configMap:
    name: enclave-cc-settings
- name: bus
  secret:
    secretName: {{ .root.Values.secrets.prefix }}-bus-{{ .role }}
    defaultMode: 0440
{{- end }}

{{- define "temporary" -}}
- name: tmp
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
{{- end }}

{{- define "claim" -}}
- metadata:
    name: data
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .className }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
{{- end }}

{{- define "policy" }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "labels" . | nindent 6 }}
{{- end }}

{{- define "to-names" }}
    - to:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: kube-system
      ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end }}

{{- define "to-bus" }}
    - to:
        - podSelector:
            matchLabels:
              {{- include "labels" (dict "root" .root "part" "bus") | nindent 14 }}
      ports: [{port: 4222}]
{{- end }}

{{- define "to-outside" }}
{{- with .Values.networkPolicies.outside.cidrs }}
    - to:
        {{- range . }}
        - ipBlock: {cidr: {{ . }}}
        {{- end }}
      ports:
        {{- range $.Values.networkPolicies.outside.ports }}
        - port: {{ . }}
        {{- end }}
{{- end }}
{{- end }}

{{- define "blocks" }}
{{- range . }}
        - ipBlock: {cidr: {{ . }}}
{{- end }}
{{- end }}
