"""Check many files at once: in several processes, and only the files that changed since the last command.

    names of task files -> CacheDirectory.load -> CacheEntry by path -> still valid? by file stamp, else by content
                        -> compile the others in forks -> CacheDirectory.save -> pipeline.judge

A failing process or disk never changes the result: the findings are those of `compile_tree`, they only take longer.
"""
