"""The compiler: text -> registry + diagnostics.

    parse   (yaml/)         SourceFile     -> Document: YAML 1.2 values and a span for every route
    merge   (layers)        Document       -> MergedDocument: with its templates and defaults, and the file of every value
    decode  (shape/decode)  MergedDocument -> TaskSpec, and a finding for everything that does not fit it
    resolve (shape/resolve) TaskSpec       -> ResolvedTask: id, prompt text
    check   (checks/)       ResolvedTask   -> diagnostics, one subject per module
    emit    (emit)          ResolvedTasks  -> Registry

Every stage takes a value and returns a new one plus diagnostics. A mistake in a file never raises, and all findings of all
files come in one pass.

The order of its modules (each imports only from groups to its left; `tests/test_layers.py` checks it):

    { source, suggest, source_tree, validation, json_schema_texts } < { rules, payloads } < diagnostics
        < { yaml, token_shapes, suggest_path, report } < { layers, conversions, exchange }
        < { resolved_task, edits, ignores, json_schema } < { param_schema, text_hygiene, spending, emit } < { shape, facts }
        < checks < { policy, connection_document } < connections < pipeline < incremental < fixes
"""
