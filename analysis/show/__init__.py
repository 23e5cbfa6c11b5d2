"""Figures and the report. Computes no result of its own."""
