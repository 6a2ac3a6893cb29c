"""A deterministic simulation of the whole daemon: one seed decides everything that happens, and what goes wrong.

`history.py` draws a history of steps from a seed; `world.py` lives through it with the production code on a virtual
clock, an ESP that exists only here (`provider.py`), and troubles injected between any two statements (`trouble.py`).
`truth.py` knows what must hold; `shrink.py` makes a failing history short.
"""
