"""Operational truth: campaigns, waves, batches, holds, counters, suppressions, inbox, journal.

SQLite by default, PostgreSQL for several nodes, one SQLAlchemy schema. Every function takes the connection of the
caller's transaction, so that what belongs together is committed together.
"""
