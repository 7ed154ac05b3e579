"""Examine the JSON Schema that an author writes under `paramsSchema`: what it declares, and what is wrong with it. The checks
of parameters, prompts and webhooks use these modules; they report findings only where they are called `check_...`."""
