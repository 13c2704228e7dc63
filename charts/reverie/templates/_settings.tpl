{{/*
A name as a key of TOML: bare where it can be.
*/}}
{{- define "reverie.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{- . -}}{{- else -}}{{- toJson . -}}{{- end -}}
{{- end -}}

{{/*
A map as TOML: (dict "map" $settings "path" ""). Values are written as JSON, whose strings, numbers, booleans and arrays of them
are TOML as well; Helm's own toToml makes floats of integers, which the services refuse.
*/}}
{{- define "reverie.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .map }}
{{- if kindIs "slice" $value }}
{{- range $value }}
{{- if or (kindIs "map" .) (kindIs "slice" .) (kindIs "invalid" .) }}
{{- fail (printf "settings: %s%s must be a list of texts, numbers or booleans (got %s in it)" $path $key (toJson .)) }}
{{- end }}
{{- end }}
{{- end }}
{{- /* null takes a setting out. */}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "reverie.tomlKey" $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .map }}
{{- if kindIs "map" $value }}
{{- $table := printf "%s%s" $path (include "reverie.tomlKey" $key) }}
[{{ $table }}]
{{- include "reverie.toml" (dict "map" $value "path" (printf "%s." $table)) }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
The settings of a component: what the chart decides, then what its templates derive (.settings), then the user's.
*/}}
{{- define "reverie.settings" -}}
{{- $root := .root -}}
{{- $server := dict
      "listen" (printf "%s:%s" $root.Values.listenAddress (include "reverie.port" .service))
      "lame_duck_seconds" .values.lameDuckSeconds
      "drain_seconds" .values.drainSeconds -}}
{{- $telemetry := dict
      "log_format" $root.Values.telemetry.logFormat
      "otlp_endpoint" $root.Values.telemetry.otlpEndpoint -}}
{{- with $root.Values.telemetry.logFilter -}}
{{- $_ := set $telemetry "log_filter" . -}}
{{- end -}}
{{- $settings := dict
      "server" $server
      "telemetry" $telemetry -}}
{{- if $root.Values.adminPort -}}
{{- $_ := set $settings "admin" (dict "listen" (printf "%s:9090" $root.Values.listenAddress)) -}}
{{- end -}}
{{- if $root.Values.tls.enabled -}}
{{- if not $root.Values.adminPort -}}
{{- fail "tls.enabled needs adminPort: kubelet cannot ask for gRPC health by TLS" -}}
{{- end -}}
{{- $tls := include "reverie.tlsSettings" . | fromJson -}}
{{- $_ := set $server "tls" $tls.server -}}
{{- $_ := set $settings "client" (dict "tls" $tls.client) -}}
{{- end -}}
{{- if and (eq .service "pipeline") (or $root.Values.access.keysSecret.name $root.Values.access.tokens) -}}
{{- $access := dict -}}
{{- if $root.Values.access.keysSecret.name -}}
{{- $_ := set $access "keys" (printf "/etc/reverie-keys/%s" $root.Values.access.keysSecret.key) -}}
{{- end -}}
{{- with $root.Values.access.tokens -}}
{{- $_ := set $access "tokens" . -}}
{{- end -}}
{{- $_ := set $settings "access" $access -}}
{{- end -}}
{{- if has "models" .data -}}
{{- $models := $root.Values.models -}}
{{- $inference := dict "bundle" (printf "/models/%s" $models.bundle) -}}
{{- if eq $models.source "objectStorage" -}}
{{- $_ := set $inference "bundle" (required "models.location must be the URL of a bundle where models.source is objectStorage" $models.location) -}}
{{- end -}}
{{- if .values.gpu.count -}}
{{- $_ := set $inference "provider" "cuda" -}}
{{- end -}}
{{- $_ := set $settings "inference" $inference -}}
{{- end -}}
{{- if has "knowledge" .data -}}
{{- /* The services' defaults have this one: an empty location takes it out. */ -}}
{{- $bases := dict "creatures" "" -}}
{{- $_ := set $settings "knowledge_bases" (mergeOverwrite $bases (deepCopy $root.Values.knowledge.bases)) -}}
{{- end -}}
{{- if include "reverie.readsObjects" . -}}
{{- $_ := set $settings "storage" (dict "cache" "/cache" "cache_gib" ($root.Values.objectStorage.cacheGib | int)) -}}
{{- range $name, $location := $settings.knowledge_bases -}}
{{- if hasPrefix "/" ($location | default "") -}}
{{- fail (printf "knowledge.bases.%s must be a URL where knowledge bases are in object storage, not %s" $name $location) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $value := dict "listen" "listenAddress" "lame_duck_seconds" "lameDuckSeconds" "drain_seconds" "drainSeconds" -}}
{{- if hasKey ($.values.settings.server | default dict) $key -}}
{{- fail (printf "%s.settings.server.%s is set by %s" $.name $key $value) -}}
{{- end -}}
{{- end -}}
{{- $settings = mergeOverwrite $settings (deepCopy .settings) (deepCopy .values.settings) -}}
{{- include "reverie.toml" (dict "map" $settings "path" "") | trim -}}
{{- end -}}
