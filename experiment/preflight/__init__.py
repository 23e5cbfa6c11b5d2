"""Checks before the first cost. Creates and changes nothing."""
