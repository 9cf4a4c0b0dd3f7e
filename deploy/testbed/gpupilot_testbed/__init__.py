"""A Kubernetes cluster of plain processes on one machine, for development and tests."""
