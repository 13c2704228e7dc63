{{/*
Where models and knowledge bases come from. (dict "root" $ "name" "models" "data" .Values.models) with data.source:
imageVolume, persistentVolumeClaim or initContainer. Mounted read-only at /NAME. What is in object storage is no volume.
*/}}
{{- define "reverie.dataVolume" -}}
- name: {{ .name }}
{{- if eq .data.source "imageVolume" }}
  image:
    reference: {{ include "reverie.image" (dict "root" .root "name" .data.image.name "override" .data.image) }}
    pullPolicy: {{ .root.Values.image.pullPolicy }}
{{- else if eq .data.source "persistentVolumeClaim" }}
  persistentVolumeClaim:
    claimName: {{ required (printf "%s.claim.name must name a PersistentVolumeClaim where %s.source is persistentVolumeClaim" .name .name) .data.claim.name }}
    readOnly: true
{{- else }}
  emptyDir:
    sizeLimit: {{ .data.copy.sizeLimit }}
{{- end }}
{{- end -}}

{{- define "reverie.dataMount" -}}
- name: {{ .name }}
  mountPath: /{{ .name }}
  readOnly: true
{{- if eq .data.source "imageVolume" }}
  subPath: {{ .data.image.folder }}
{{- else if and (eq .data.source "persistentVolumeClaim") .data.claim.subPath }}
  subPath: {{ .data.claim.subPath }}
{{- end }}
{{- end -}}

{{/* The init container that copies the folder out of its image; nothing for the other sources. */}}
{{- define "reverie.dataCopy" -}}
{{- if eq .data.source "initContainer" }}
- name: copy-{{ .name }}
  image: {{ include "reverie.image" (dict "root" .root "name" .data.image.name "override" .data.image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: {{ toJson .data.copy.command }}
  args: ["/{{ .data.image.folder }}/.", "/copy/"]
  resources: {{ toJson .data.copy.resources }}
  securityContext: {{- include "reverie.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - name: {{ .name }}
      mountPath: /copy
{{- end }}
{{- end -}}

{{/* The data that a component reads: a dict of volume names to their values. */}}
{{- define "reverie.dataOf" -}}
{{- $found := dict -}}
{{- $models := .root.Values.models -}}
{{- $knowledge := .root.Values.knowledge -}}
{{- $inModels := eq $knowledge.source "models" -}}
{{- if and (or (has "models" .data) (and (has "knowledge" .data) $inModels)) (ne $models.source "objectStorage") -}}
{{- $_ := set $found "models" $models -}}
{{- end -}}
{{- if and (has "knowledge" .data) (not $inModels) (ne $knowledge.source "objectStorage") -}}
{{- $_ := set $found "knowledge" $knowledge -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* "true" if something that a component reads is in object storage. */}}
{{- define "reverie.readsObjects" -}}
{{- $models := .root.Values.models.source -}}
{{- $knowledge := .root.Values.knowledge.source | replace "models" $models -}}
{{- if or (and (has "models" .data) (eq $models "objectStorage")) (and (has "knowledge" .data) (eq $knowledge "objectStorage")) -}}
true
{{- end -}}
{{- end -}}
