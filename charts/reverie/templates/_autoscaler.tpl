{{/*
Services around models scale by their backlog in seconds, the others by their calls in flight: CPU use says nothing here, since a
stage with one image to draw uses all it can get.
*/}}
{{- define "reverie.scalingMetric" -}}
{{- ternary "reverie_lane_backlog_seconds" "reverie_calls_in_flight" (has "models" .data) -}}
{{- end -}}

{{- define "reverie.autoscaler" -}}
{{- if .values.autoscaling.enabled -}}
{{- if gt (int .values.autoscaling.minReplicas) (int .values.autoscaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas must be at most maxReplicas" .name) -}}
{{- end -}}
{{- if eq .root.Values.autoscaler.kind "keda" -}}
{{- include "reverie.scaledObject" . -}}
{{- else -}}
{{- include "reverie.podAutoscaler" . -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "reverie.scalingBehaviour" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Percent, value: 100, periodSeconds: 15}
    - {type: Pods, value: 2, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: {{ .values.autoscaling.scaleDownSeconds }}
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}

{{- define "reverie.podAutoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "reverie.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "reverie.componentLabels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "reverie.name" . }}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    {{- if eq .root.Values.autoscaler.metricType "Pods" }}
    - type: Pods
      pods:
        metric:
          name: {{ include "reverie.scalingMetric" . }}
    {{- else }}
    - type: External
      external:
        metric:
          name: {{ include "reverie.scalingMetric" . }}
          selector:
            matchLabels:
              namespace: {{ .root.Release.Namespace }}
              component: {{ .name }}
    {{- end }}
        target:
          type: AverageValue
          averageValue: {{ .values.autoscaling.target | quote }}
  behavior: {{- include "reverie.scalingBehaviour" . | nindent 4 }}
{{- end -}}

{{- define "reverie.scaledObject" -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "reverie.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "reverie.componentLabels" . | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ include "reverie.name" . }}
  minReplicaCount: {{ .values.autoscaling.minReplicas }}
  maxReplicaCount: {{ .values.autoscaling.maxReplicas }}
  pollingInterval: 5
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {{- include "reverie.scalingBehaviour" . | nindent 8 }}
  triggers:
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {{ required "autoscaler.prometheusAddress must be the address of Prometheus where autoscaler.kind is keda" .root.Values.autoscaler.prometheusAddress }}
        query: sum({{ include "reverie.scalingMetric" . }}{namespace="{{ .root.Release.Namespace }}",component="{{ .name }}"})
        threshold: {{ .values.autoscaling.target | quote }}
{{- end -}}
