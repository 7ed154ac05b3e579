"""Optio: agent tasks as code.

How the packages stand to each other (import only what stands to the left; `tests/test_layers.py` proves it):

    errors < { scheduling, private_files } < model
           < { compiler, runtimes, store, broker, limits, executors, secrets, telemetry } < { plan, runs } < testing
           < settings < wiring < tree < { check_cache, processes, lsp } < server < cli

`scheduling`, `model`, `compiler`, `runtimes` and `plan` are pure: no I/O but reading through a `SourceTree`, no clock, no
randomness.

    tasks.d/*.yaml -> compiler.pipeline.compile_tree -> Compilation(registry, diagnostics)
    trigger        -> runs.submit -> one commit (delivery + run + event) -> a hint to the workers
    worker         -> admission inside store.claim -> runs.execute -> executor.start -> log lines, outcome -> one commit
    reader         -> store from a cursor, then the broker's hint "there is more"
"""
