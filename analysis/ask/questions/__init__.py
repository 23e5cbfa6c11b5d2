"""Cards: contrasts, published claims, what limits a pull, the slowest node. Pure."""
