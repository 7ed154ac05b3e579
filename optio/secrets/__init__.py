"""Secrets: values by name from the environment, files or a program. A value reaches only the runs of tasks that name it, and
webhook signatures."""
