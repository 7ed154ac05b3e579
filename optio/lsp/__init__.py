"""A language server: what the compiler knows, in an editor.

positions   places of the compiler's and of an editor's, into each other
outline     keys and values of a text that may be no YAML at this moment
trees       a task directory with what is typed over what is saved; findings of it
pages       one open document: what is known about it now, or was when it could last be read
keys        what the schema says of a key
hover, complete, links, symbols, actions   a page and a place -> what is shown there
worker      a thread for what takes long
workspace   all pages and trees that are open: they are read anew as they change, and the editor is told
answers     what is asked about a page -> what is shown there, in the forms of the protocol
wire        our values in the forms of the protocol
server      what is sent and received, and the only module besides `wire` that knows the library
"""
