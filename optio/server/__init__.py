"""The HTTP server: REST, webhooks, live logs. Every URL of the seed stands here as the seed writes it."""
