"""The parts of a stack: cluster and nodes, event exporter, log sink, dead-man switch."""
