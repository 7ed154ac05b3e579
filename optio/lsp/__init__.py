"""A language server: what the compiler knows, in an editor."""
