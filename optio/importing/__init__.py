"""Read whole files of other systems and write tasks of them. `formats` recognises a file; one module for each format turns it
into drafts; `outcome` compiles the drafts and keeps those that have no error; `report` says what became of every key.

Nothing is guessed. A key that no module took is reported as one without a counterpart, and where a person must decide, the
report and a comment in the task ask. If the answer changes what a run does, the triggers are off until it is given.
"""
