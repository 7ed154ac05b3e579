"""What senders put into webhook payloads, and the JSONPath queries that read them."""
