"""Builds study images: plan, content, layers, compression, push. Knows no registry protocol."""
