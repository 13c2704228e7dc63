{{/* Pod Security "restricted": of every container, and of every pod (of the chart's context). */}}
{{- define "reverie.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "reverie.podSecurity" -}}
runAsNonRoot: true
{{- if not .Values.clusterChoosesUser }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Limits and requests, with the GPUs that gpu.count asks for. */}}
{{- define "reverie.resources" -}}
{{- $resources := deepCopy .values.resources -}}
{{- if .values.gpu.count -}}
{{- $limits := $resources.limits | default dict -}}
{{- $_ := set $resources "limits" (set $limits .values.gpu.resource .values.gpu.count) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Asks whether the service serves. */}}
{{- define "reverie.readyProbe" -}}
{{- if .root.Values.adminPort -}}
httpGet:
  path: /readyz
  port: admin
{{- else -}}
grpc:
  port: {{ include "reverie.port" .service }}
{{- end -}}
{{- end -}}

{{/* Asks whether the process answers, whatever the services it calls do. */}}
{{- define "reverie.aliveProbe" -}}
{{- if .root.Values.adminPort -}}
httpGet:
  path: /livez
  port: admin
{{- else -}}
tcpSocket:
  port: grpc
{{- end -}}
{{- end -}}

{{- define "reverie.deployment" -}}
{{- $values := .values -}}
{{- $root := .root -}}
{{- $data := include "reverie.dataOf" . | fromJson -}}
{{- $objects := include "reverie.readsObjects" . -}}
{{- if and $values.gpu.count (not (has "models" .data)) -}}
{{- fail (printf "gpu.count of %s must be 0 (got %v): it runs no models. Set that of encoder, denoiser, superResolution or autoencoder instead of defaults" .name $values.gpu.count) -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "reverie.name" . }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "reverie.componentLabels" . | nindent 4 }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # A pod that starts within its time is no failure of the rollout.
  progressDeadlineSeconds: {{ max 600 (add $values.startupSeconds 120) }}
  selector:
    matchLabels: {{- include "reverie.componentSelector" . | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- if $values.gpu.count }}
      # No GPU is free for a pod more.
      maxSurge: 0
      maxUnavailable: 1
      {{- else }}
      maxSurge: 1
      maxUnavailable: 0
      {{- end }}
  template:
    metadata:
      labels:
        {{- include "reverie.componentSelector" . | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # New settings are a new pod.
        checksum/settings: {{ include "reverie.settings" . | sha256sum }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "reverie.serviceAccountName" $root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext: {{- include "reverie.podSecurity" $root | nindent 8 }}
      {{- with include "reverie.priorityClass" . }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      # Half as much again as the service takes at most, and its last telemetry: it is never killed while it drains.
      terminationGracePeriodSeconds: {{ add $values.drainSeconds $values.lameDuckSeconds | mulf 1.5 | ceil | int | add 5 }}
      {{- with $values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "reverie.componentSelector" $ | nindent 14 }}
          # Old and new pods of a rollout are spread each for themselves.
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- $copies := list }}
      {{- range $name, $source := $data }}
      {{- $copies = append $copies (include "reverie.dataCopy" (dict "root" $root "name" $name "data" $source)) }}
      {{- end }}
      {{- with without $copies "" }}
      initContainers:
        {{- range . }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .service }}
          image: {{ include "reverie.image" (dict "root" $root "name" .service "override" $values.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [--config, /etc/reverie/settings.toml]
          {{- with ternary (concat $root.Values.objectStorage.env $values.env) $values.env (eq $objects "true") }}
          env: {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - name: grpc
              containerPort: {{ include "reverie.port" .service }}
            {{- if $root.Values.adminPort }}
            - name: admin
              containerPort: 9090
            {{- end }}
          # A stage has ten minutes to load its models. A service that calls others starts without them, and waits.
          startupProbe:
            {{- include (ternary "reverie.aliveProbe" "reverie.readyProbe" (gt (len .calls) 0)) . | nindent 12 }}
            periodSeconds: 1
            timeoutSeconds: 1
            failureThreshold: {{ $values.startupSeconds }}
          # Takes the pod out of its Service; a service is not ready while what it calls is not.
          readinessProbe:
            {{- include "reverie.readyProbe" . | nindent 12 }}
            periodSeconds: 1
            timeoutSeconds: 1
            failureThreshold: 2
          # Restarts the pod; depends on no other service.
          livenessProbe:
            {{- include "reverie.aliveProbe" . | nindent 12 }}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          resources: {{- include "reverie.resources" . | nindent 12 }}
          securityContext: {{- include "reverie.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - name: settings
              mountPath: /etc/reverie
              readOnly: true
            {{- with include "reverie.tlsMounts" . }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- if and (eq .service "pipeline") $root.Values.access.keysSecret.name }}
            - name: keys
              mountPath: /etc/reverie-keys
              readOnly: true
            {{- end }}
            {{- if and (eq .service "vector") $root.Values.milvus.address $root.Values.milvus.tokenSecret.name }}
            - name: milvus
              mountPath: /etc/reverie-milvus
              readOnly: true
            {{- end }}
            {{- range $name, $source := $data }}
            {{- include "reverie.dataMount" (dict "name" $name "data" $source) | nindent 12 }}
            {{- end }}
            {{- if $objects }}
            - name: cache
              mountPath: /cache
            {{- end }}
            {{- if $values.gpu.count }}
            - name: tmp
              mountPath: /tmp
            {{- end }}
            {{- with $values.volumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: settings
          configMap:
            name: {{ include "reverie.name" . }}
        {{- with include "reverie.tlsVolumes" . }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- if and (eq .service "pipeline") $root.Values.access.keysSecret.name }}
        - name: keys
          secret:
            secretName: {{ $root.Values.access.keysSecret.name }}
            defaultMode: 0440
        {{- end }}
        {{- if and (eq .service "vector") $root.Values.milvus.address $root.Values.milvus.tokenSecret.name }}
        - name: milvus
          secret:
            secretName: {{ $root.Values.milvus.tokenSecret.name }}
            defaultMode: 0440
        {{- end }}
        {{- range $name, $source := $data }}
        {{- include "reverie.dataVolume" (dict "root" $root "name" $name "data" $source) | nindent 8 }}
        {{- end }}
        {{- if $objects }}
        # With room for the file that is being downloaded.
        - name: cache
          emptyDir:
            sizeLimit: {{ add $root.Values.objectStorage.cacheGib 1 }}Gi
        {{- end }}
        {{- if $values.gpu.count }}
        # CUDA keeps compiled kernels here.
        - name: tmp
          emptyDir:
            sizeLimit: 1Gi
        {{- end }}
        {{- with $values.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
