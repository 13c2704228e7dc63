{{/*
Everything that one component consists of. The argument is a dict:

  root      the chart's context
  name      the component: the end of its objects' names
  service   the service it runs, and its image: the same as the name, but for super-resolution, which has a component per level
  values    the component's own values
  settings  what its settings derive from other values, as a map
  data      what it reads: "models", "knowledge"
  calls     components that it calls
  callers   components that call it
*/}}
{{- define "reverie.component" -}}
{{- $values := mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy .values) -}}
{{- $component := merge (dict "values" $values) . -}}
{{- range list "reverie.settingsMap" "reverie.certificate" "reverie.deployment" "reverie.service" "reverie.adminService" "reverie.disruptionBudget" "reverie.autoscaler" "reverie.componentPolicy" }}
{{- with include . $component | trim }}
---
{{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "reverie.settingsMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "reverie.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "reverie.componentLabels" . | nindent 4 }}
data:
  settings.toml: |
    {{- include "reverie.settings" . | nindent 4 }}
{{- end -}}

{{/* The pipeline has an address of its own for its callers; stages are balanced by those who call them, which need every pod's. */}}
{{- define "reverie.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "reverie.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "reverie.componentLabels" . | nindent 4 }}
  {{- if eq .service "pipeline" }}
  {{- with .root.Values.pipeline.service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
spec:
  {{- if eq .service "pipeline" }}
  type: {{ .root.Values.pipeline.service.type }}
  {{- else }}
  clusterIP: None
  {{- end }}
  selector: {{- include "reverie.componentSelector" . | nindent 4 }}
  ports:
    - name: grpc
      port: {{ include "reverie.port" .service }}
      targetPort: grpc
      appProtocol: {{ ternary "https" "kubernetes.io/h2c" .root.Values.tls.enabled }}
    {{- if and .root.Values.adminPort (ne .service "pipeline") }}
    {{- include "reverie.adminPort" . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "reverie.adminPort" -}}
- name: admin
  port: 9090
  targetPort: admin
  appProtocol: http
{{- end -}}

{{/* The pipeline's admin port is not in the Service of its callers, which may be open to the world. */}}
{{- define "reverie.adminService" -}}
{{- if and .root.Values.adminPort (eq .service "pipeline") }}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "reverie.name" (dict "root" .root "name" "pipeline-admin") }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "reverie.componentLabels" . | nindent 4 }}
spec:
  clusterIP: None
  selector: {{- include "reverie.componentSelector" . | nindent 4 }}
  ports:
    {{- include "reverie.adminPort" . | nindent 4 }}
{{- end }}
{{- end -}}

{{/* With one replica a budget would only block the drain of its node. */}}
{{- define "reverie.disruptionBudget" -}}
{{- $least := ternary .values.autoscaling.minReplicas .values.replicas .values.autoscaling.enabled -}}
{{- if ge (int $least) 2 }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "reverie.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "reverie.componentLabels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "reverie.componentSelector" . | nindent 6 }}
{{- end }}
{{- end -}}
