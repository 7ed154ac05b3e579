"""Defaults of settings that a task's file is held against where nobody says what the server has."""

MAX_WORKFLOW_CONCURRENT = 5
WEBHOOK_RATE_PER_MINUTE = 60
