"""What came out: tables, plots and reports from run folders on disk."""
