"""The routes of the HTTP API, one subject per module. A handler reads the request, calls a use case or the store, and
serializes the answer. The docstring of a handler is its description in the API reference."""
