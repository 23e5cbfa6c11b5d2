"""What to measure, in which order, and its cost. Creates nothing in the cloud."""
