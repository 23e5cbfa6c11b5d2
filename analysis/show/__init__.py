"""Figures and the report. Computes no results."""
