"""Turns events into pulls, cells and an audit. Asks no question of them, draws nothing."""
