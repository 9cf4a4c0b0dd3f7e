"""The Kubernetes operator: watches InferenceService resources and carries out verdicts."""
