"""Defaults of server settings that a check of task files needs where the server's own values are not known."""

MAX_WORKFLOW_CONCURRENT = 5
