"""Decisions, and nothing else: values in, values or SQL expressions out.

No module here reads a clock, a file, a database or a random number, and none logs. Each question about
a campaign has exactly one home (see ARCHITECTURE.md); what happens with the answer is the business of `flow/`.
"""
