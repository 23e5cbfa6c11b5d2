"""Faults: a catalogue, and the injection points that each component asks."""
