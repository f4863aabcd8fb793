{{/* What every pod may do, and the user that it runs as. */}}
{{- define "recsys.podSecurity" -}}
{runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
{{- end }}

{{/* The keys of the object store, for each container. */}}
{{- define "recsys.bucket" -}}
{{- with .Values.bucket.secret }}
envFrom: [{secretRef: {name: {{ . }}}}]
{{- end }}
{{- end }}

{{/* Secrets for images, and the account: for each pod. */}}
{{- define "recsys.pod" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .Values.serviceAccount.name }}
serviceAccountName: {{ . }}
{{- end }}
{{- end }}

{{- define "recsys.access" -}}
{{ .Values.access.secret | default (printf "%s-access" .Release.Name) }}
{{- end }}
