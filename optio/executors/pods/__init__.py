"""The Kubernetes executor: each attempt is a pod that is used once."""
