"""The compiler: text -> registry + diagnostics.

    parse   (document)  SourceFile   -> Document: YAML 1.2 values and a span for every route
    merge   (layers)    Document     -> Merged: with its templates and defaults, each value with the file that wrote it
    shape   (spec)      Merged       -> TaskSpec, and everything that does not fit it
    resolve (resolve)   TaskSpec     -> ResolvedTask: id, prompt text
    check   (checks/*)  ResolvedTask -> diagnostics, one concern per file
    emit    (emit)      ResolvedTasks -> Registry

Every stage takes a value and returns a new one plus diagnostics. A mistake in a file never raises, and all findings of all
files come in one pass.
"""
