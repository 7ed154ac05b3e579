"""Conversions from other systems' task files: keys, values and words of GitHub Actions, Kubernetes, Argo and others, as Optio
writes them. Imported only for a file with a mistake; hints and fixes are made of them."""
