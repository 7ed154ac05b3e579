"""Examine the JSON Schemas that an author writes under `paramsSchema` and `result`: what they declare, and what is wrong with
them. The checks of parameters, results, prompts and webhooks use these modules; they report findings only where they are called
`check_...`."""
