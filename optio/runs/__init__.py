"""Use cases of runs: admission, execution, schedules, webhooks, audits. They are written against protocols and pure models; no
store, broker or executor is named here."""
