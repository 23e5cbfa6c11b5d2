"""Reads recordings and run folders into tables of events. Judges nothing."""
