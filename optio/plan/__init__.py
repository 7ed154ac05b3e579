"""Plan: what a change of task files changes in what the tasks do. Pure: two trees and the time in, effects out.

two trees -> a Side each -> pairs -> effects.between for each pair -> Plan -> text, markdown, JSON, findings
"""
