"""The HTTP server: the REST API, webhooks, live logs and the OpenAPI document. It serves what `tree` has compiled, and reads
and writes the store; it runs no agents."""
