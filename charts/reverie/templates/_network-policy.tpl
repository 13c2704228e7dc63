{{/* The port of a URL. */}}
{{- define "reverie.portOf" -}}
{{- $authority := regexReplaceAll "^https?://([^/]*).*$" . "${1}" -}}
{{- regexFind ":[0-9]+$" $authority | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https://" .)) -}}
{{- end -}}

{{/* The edges of one component: who calls it, whom it calls, DNS, the scraper, the collector. Everything else is denied. */}}
{{- define "reverie.componentPolicy" -}}
{{- $root := .root -}}
{{- $policy := $root.Values.networkPolicy -}}
{{- if $policy.enabled }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "reverie.name" . }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "reverie.componentLabels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "reverie.componentSelector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- range .callers }}
    - from:
        - podSelector:
            matchLabels: {{- include "reverie.componentSelector" (dict "root" $root "name" .) | nindent 14 }}
      ports: [{port: grpc}]
    {{- end }}
    {{- if eq .service "pipeline" }}
    {{- with $policy.clients }}
    - from: {{- toYaml . | nindent 8 }}
      ports: [{port: grpc}]
    {{- end }}
    {{- end }}
    {{- if and $root.Values.adminPort $policy.scrapers }}
    - from: {{- toYaml $policy.scrapers | nindent 8 }}
      ports: [{port: admin}]
    {{- end }}
  {{- $objects := include "reverie.readsObjects" . }}
  {{- $milvus := ternary $root.Values.milvus.address "" (eq .service "vector") }}
  {{- if not (or .calls $root.Values.telemetry.otlpEndpoint $objects $milvus) }}
  egress: []
  {{- else }}
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
    {{- range .calls }}
    - to:
        - podSelector:
            matchLabels: {{- include "reverie.componentSelector" (dict "root" $root "name" .) | nindent 14 }}
      ports: [{port: grpc}]
    {{- end }}
    {{- /* A rule with an empty list would let everything through. */}}
    {{- if $objects }}
    {{- with $root.Values.objectStorage.egress }}
    - to: {{- toYaml . | nindent 8 }}
      ports:
        {{- range prepend ($root.Values.objectStorage.morePorts | default list) $root.Values.objectStorage.port }}
        - {port: {{ . }}}
        {{- end }}
    {{- end }}
    {{- end }}
    {{- if and (eq .service "pipeline") (contains "://" ($root.Values.access.tokens.jwks | default "")) }}
    {{- with $root.Values.access.egress }}
    - to: {{- toYaml . | nindent 8 }}
      ports: [{port: {{ $root.Values.access.port }}}]
    {{- end }}
    {{- end }}
    {{- with $milvus }}
    {{- $port := include "reverie.portOf" . }}
    {{- with $root.Values.milvus.egress }}
    - to: {{- toYaml . | nindent 8 }}
      ports: [{port: {{ $port }}}]
    {{- end }}
    {{- end }}
    {{- with $root.Values.telemetry.otlpEndpoint }}
    {{- $port := include "reverie.portOf" . }}
    {{- with $policy.collectors }}
    - to: {{- toYaml . | nindent 8 }}
      ports: [{port: {{ $port }}}]
    {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}
