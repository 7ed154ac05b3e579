"""Defaults of settings that a task's file is held against where nobody says what the server has."""

MAX_WORKFLOW_CONCURRENT = 5
