"""Payloads of webhooks by sender, and the JSONPath queries that read them."""
