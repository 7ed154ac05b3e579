"""What several commands use: flags, the HTTP client, and how values look in a terminal."""
