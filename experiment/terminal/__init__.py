"""What a user sees during a run. Decides nothing."""
