{{- define "ballast.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ballast.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ballast.labels" -}}
{{ include "ballast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "ballast.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "ballast.port" -}}
{{- .Values.config.http.listen | splitList ":" | last -}}
{{- end -}}

{{- /* A value as TOML has it. Not toToml: it makes 3.0 of 3, which is no number of shards. JSON's strings and numbers are TOML's. */ -}}
{{- define "ballast.toml.value" -}}
{{- if kindIs "map" . -}}
{ {{ range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ include "ballast.toml.key" $key }} = {{ include "ballast.toml.value" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "ballast.toml.value" $item }}{{ end }}]
{{- else -}}
{{ toRawJson . }}
{{- end -}}
{{- end -}}

{{- define "ballast.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toRawJson . }}{{ end -}}
{{- end -}}

{{- define "ballast.toml.table" -}}
{{- range $key := keys . | sortAlpha }}
{{- $value := get $ $key }}
{{- if not (kindIs "invalid" $value) }}
{{ include "ballast.toml.key" $key }} = {{ include "ballast.toml.value" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The top's own keys come first, since they would be a section's after one has begun. */ -}}
{{- define "ballast.toml" -}}
{{- range $key := keys . | sortAlpha }}
{{- $value := get $ $key }}
{{- if not (or (kindIs "map" $value) (kindIs "slice" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ include "ballast.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key := keys . | sortAlpha }}
{{- $value := get $ $key }}
{{- if kindIs "map" $value }}

[{{ $key }}]
{{- include "ballast.toml.table" $value }}
{{- else if kindIs "slice" $value }}
{{- range $value }}

[[{{ $key }}]]
{{- include "ballast.toml.table" . }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "ballast.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.password.existingSecret -}}
{{- $file := printf "/etc/ballast-password/%s" .Values.password.key -}}
{{- $config = mergeOverwrite $config (dict "cluster" (dict "password_file" $file)) -}}
{{- end -}}
{{ include "ballast.toml" $config | trim }}
{{- end -}}
