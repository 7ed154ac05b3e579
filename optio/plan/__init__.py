"""`optio plan`: the effects of a change to task files. Pure: two trees and the time go in, effects come out; no server, no
disk.

    two trees -> a Side each -> pairs of tasks -> effects.between for each pair -> Plan -> text, Markdown, JSON, diagnostics
"""
