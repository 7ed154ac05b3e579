"""The bodies of the HTTP API as types: what requests carry and what answers are encoded from.

The OpenAPI document is derived from these classes: class texts, and the texts below attributes, are its descriptions, and the
schema of `RunBody` is called `Run`. Keys are camelCase in the order of their attributes, times ISO 8601 in UTC, money decimal
text. `optio.server.serializers` makes the answers.
"""
