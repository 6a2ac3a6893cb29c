"""What people look at: drawings as plain SVG, no script, no style that a strict content policy would refuse."""
