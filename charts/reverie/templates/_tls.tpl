{{/*
TLS between the components and at the public door. Every component has a Secret with tls.crt, tls.key and ca.crt, made by cert-manager
or by whoever runs the cluster; stages take the calls of the components that call them, known by the names in their certificates.
*/}}

{{/* The Secret of a component: (dict "root" $ "name" "denoiser"). */}}
{{- define "reverie.tlsSecret" -}}
{{- include "reverie.name" . }}-tls
{{- end -}}

{{/* The settings server.tls and client.tls of a component, as JSON. */}}
{{- define "reverie.tlsSettings" -}}
{{- $own := "/etc/reverie-tls" -}}
{{- $server := dict "certificate" (printf "%s/tls.crt" $own) "private_key" (printf "%s/tls.key" $own) -}}
{{- $authorities := printf "%s/ca.crt" $own -}}
{{- if and (eq .service "pipeline") .root.Values.tls.door.clientCertificates -}}
{{- $_ := set $server "client_authorities" $authorities -}}
{{- else if ne .service "pipeline" -}}
{{- $callers := dict -}}
{{- range .callers -}}
{{- /* With the namespace: an issuer of the cluster signs for others, too. */ -}}
{{- $_ := set $callers (printf "%s.%s.svc" (include "reverie.name" (dict "root" $.root "name" .)) $.root.Release.Namespace) (list "*") -}}
{{- end -}}
{{- $_ := set $server "client_authorities" $authorities -}}
{{- $_ := set $server "callers" $callers -}}
{{- end -}}
{{- $client := dict
      "authorities" $authorities
      "certificate" (printf "%s/tls.crt" $own)
      "private_key" (printf "%s/tls.key" $own) -}}
{{- toJson (dict "server" $server "client" $client) -}}
{{- end -}}

{{- define "reverie.tlsMounts" -}}
{{- if .root.Values.tls.enabled -}}
- name: tls
  mountPath: /etc/reverie-tls
  readOnly: true
{{- end }}
{{- end -}}

{{/* Files of a Secret change in place when it does, and services read them again. */}}
{{- define "reverie.tlsVolumes" -}}
{{- if .root.Values.tls.enabled -}}
- name: tls
  secret:
    secretName: {{ include "reverie.tlsSecret" . }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* The Certificate of a component, for cert-manager. */}}
{{- define "reverie.certificate" -}}
{{- $tls := .root.Values.tls -}}
{{- if and $tls.enabled (eq $tls.source "certManager") -}}
{{- $name := include "reverie.name" . -}}
{{- $names := list $name (printf "%s.%s" $name .root.Release.Namespace) (printf "%s.%s.svc" $name .root.Release.Namespace) -}}
{{- if eq .service "pipeline" -}}
{{- /* localhost for kubectl port-forward. */ -}}
{{- $names = concat $names (list "localhost") $tls.door.dnsNames -}}
{{- end -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "reverie.componentLabels" . | nindent 4 }}
spec:
  secretName: {{ include "reverie.tlsSecret" . }}
  duration: {{ $tls.duration }}
  renewBefore: {{ $tls.renewBefore }}
  privateKey:
    algorithm: ECDSA
    size: 256
    rotationPolicy: Always
  usages: [digital signature, server auth, client auth]
  dnsNames:
    {{- range $names }}
    - {{ . }}
    {{- end }}
  issuerRef:
    name: {{ required "tls.issuer.name must name an issuer of cert-manager where tls.source is certManager" $tls.issuer.name }}
    kind: {{ $tls.issuer.kind }}
    group: {{ $tls.issuer.group }}
{{- end -}}
{{- end -}}
