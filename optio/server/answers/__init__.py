"""Answers of the API that pages show too: functions that read the parts of the hub and return bodies. They know neither
requests nor responses."""
