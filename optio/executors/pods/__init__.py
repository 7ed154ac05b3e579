"""The Kubernetes executor: each attempt is a pod that is used once, made for it or taken from a warm pool."""
