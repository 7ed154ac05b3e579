"""Checking many files: by several processes, and again only what changed since the last command.

    names of task files -> store.load -> Kept by path -> still true? by sign, else by content
                        -> the others are compiled, in processes -> store.save -> pipeline.judge

Whatever goes wrong with a process or with the disk, the findings are those of `compile_tree`: it only takes longer.
"""
