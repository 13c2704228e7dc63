{{/* The name of everything in the release: the release's own if it says reverie already. */}}
{{- define "reverie.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "reverie" .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-reverie" .Release.Name -}}
{{- end -}}
{{- end -}}

{{/* The name of one component: (dict "root" $ "name" "denoiser"). Names of Services have at most 63 characters. */}}
{{- define "reverie.name" -}}
{{- $name := printf "%s-%s" (include "reverie.fullname" .root) .name -}}
{{- if gt (len $name) 63 -}}
{{- fail (printf "the name %s has %d characters, at most 63 are allowed: set fullnameOverride to a shorter name" $name (len $name)) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* The labels that select the pods of the whole release. */}}
{{- define "reverie.selector" -}}
app.kubernetes.io/name: reverie
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The labels that select the pods of one component: (dict "root" $ "name" "denoiser"). */}}
{{- define "reverie.componentSelector" -}}
{{ include "reverie.selector" .root }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{/* The labels of every object. */}}
{{- define "reverie.labels" -}}
{{ include "reverie.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "reverie.componentLabels" -}}
{{ include "reverie.labels" .root }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "reverie.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "reverie.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* An image by digest, or by tag: (dict "root" $ "name" "denoiser" "override" .image-of-the-component). */}}
{{- define "reverie.image" -}}
{{- $image := .root.Values.image -}}
{{- $override := .override | default dict -}}
{{- $repository := $override.repository | default (printf "%s/%s/%s" $image.registry $image.repository .name | trimPrefix "/") -}}
{{- with $override.digest -}}
{{- printf "%s@%s" $repository . -}}
{{- else -}}
{{- printf "%s:%s" $repository ($override.tag | default $image.tag | default $.root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The address of a component for its callers: (dict "root" $ "name" "denoiser" "service" "denoiser"). */}}
{{- define "reverie.address" -}}
{{- printf "%s://%s:%s" (ternary "https" "http" .root.Values.tls.enabled) (include "reverie.name" .) (include "reverie.port" .service) -}}
{{- end -}}

{{/* The port of a service, the same as without Kubernetes. */}}
{{- define "reverie.port" -}}
{{- get (dict "pipeline" 7100 "encoder" 7101 "retrieval" 7102 "vector" 7103 "denoiser" 7104 "super-resolution" 7105 "autoencoder" 7106) . -}}
{{- end -}}
