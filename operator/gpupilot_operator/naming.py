"""Names of the custom resource, said once."""

from __future__ import annotations

GROUP = "gpupilot.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "InferenceService"
LIST_KIND = f"{KIND}List"
PLURAL = "inferenceservices"
SINGULAR = "inferenceservice"
SHORT_NAME = "gpisvc"
"""Not ``isvc``, which is KServe's."""
CATEGORY = "gpupilot"
CRD_NAME = f"{PLURAL}.{GROUP}"
FIELD_MANAGER = "gpupilot"
"""Who owns the fields we apply (server-side apply)."""
