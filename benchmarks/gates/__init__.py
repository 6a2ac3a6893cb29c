"""Simulated campaigns for the gates: worlds, the campaign that lives in one, published rules beside ours."""
