"""A language server: `optio lsp` shows what the compiler knows in an editor.

positions   converts between the compiler's positions and the editor's
outline     keys and values of a text that may be invalid YAML at this moment
trees       a task directory with unsaved texts over saved files, and its findings
pages       one open document and what is known about it
keys        what the JSON Schema says about a key
task_connections   the connections that a task names
hover, complete, links, symbols, actions   a page and an offset -> what the editor shows there
worker      one thread for work that takes long
workspace   all open pages and trees; recompiles them as they change, and publishes the findings
answers     requests about a page -> responses of the protocol
wire        our values as types of the protocol
connection  the editor at the other end: what it has open, and what it is sent
server      receives messages; with `wire` and `connection` the only modules that know the library
"""
