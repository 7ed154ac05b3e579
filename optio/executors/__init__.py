"""Executors: the places where agents run. `base` is their protocol, `process` runs agents on this machine, and `pods` as pods
of a Kubernetes cluster. `supervisor` is the small program above each local attempt."""
