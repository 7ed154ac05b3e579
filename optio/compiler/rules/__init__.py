"""The catalogue of rules: code, name, severity, explanation and examples, one module per family. `optio explain` and the manual
print it; `diagnostics` looks up severities here."""
