"""Trials on a cluster that is up. Brings no cluster up or down and judges no cell."""
