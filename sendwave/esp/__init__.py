"""Doors to ESPs, one file each with both directions: handing batches over and understanding what comes back."""
