"""The main job shown end to end: made-up people, a simulated ESP, virtual time, the real code."""
