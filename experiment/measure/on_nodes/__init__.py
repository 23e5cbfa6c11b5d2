"""What is done and read on each measured node, besides the trials' own pods."""
