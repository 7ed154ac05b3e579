"""What senders of webhooks put into their payloads, and the JSONPath queries into them."""
