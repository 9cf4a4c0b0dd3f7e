{{- define "gpupilot.metadata" -}}
name: gpupilot-operator
namespace: {{ .Release.Namespace }}
labels:
{{- include "gpupilot.labels" . | nindent 2 }}
{{- end }}

{{- define "gpupilot.clusterMetadata" -}}
name: gpupilot-operator
labels:
{{- include "gpupilot.labels" . | nindent 2 }}
{{- end }}

{{- define "gpupilot.labels" -}}
app.kubernetes.io/name: gpupilot-operator
app.kubernetes.io/part-of: gpupilot
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "gpupilot.monitoring" -}}
- namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values:
        {{- toYaml .Values.networkPolicy.monitoringNamespaces | nindent 8 }}
{{- end }}
