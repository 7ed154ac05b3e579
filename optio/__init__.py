"""Optio: agent tasks as code.

How the packages stand to each other (import only what stands to the left; `tests/test_layers.py` proves it):

    errors < { scheduling, private_files, process_identity, plugins } < model
           < { compiler, runtimes, store, broker, limits, executors, secrets, identity, telemetry } < { plan, runs, gateway }
           < { testing, python_api, importing } < settings < wiring < tree < { processes, lsp } < server < cli

`scheduling`, `model`, `compiler`, `runtimes`, `plan` and `importing` are pure: no I/O but reading through a `SourceTree`,
no clock, no randomness.

    tasks.d/*.yaml -> compiler.pipeline.compile_tree -> Compilation(registry, diagnostics)
    trigger        -> runs.submit -> one commit (delivery + run + event) -> a hint to the workers
    worker         -> admission inside store.claim -> runs.execute -> executor.start -> log lines, outcome -> one commit
    reader         -> store from a cursor, then the broker's hint "there is more"
"""

TYPE_CHECKING = False  # as `typing` has it, without importing that
if TYPE_CHECKING:
    from optio.python_api import (
        Compilation,
        CompiledTask,
        Diagnostic,
        Invalid,
        Registry,
        compile_tree,
        plan_change,
        render,
    )

__all__ = ["Compilation", "CompiledTask", "Diagnostic", "Invalid", "Registry", "compile_tree", "plan_change", "render"]


def __getattr__(name: str) -> object:
    """Load the Python API when one of its names is used: `import optio` alone, which every command does, stays quick."""
    if name not in __all__:
        raise AttributeError(f"module `optio` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module("optio.python_api"), name)
