"""The routes of the HTTP API, one subject a module."""
