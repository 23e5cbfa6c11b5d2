"""Events from watch, Cloud Logging and archive, and the ledger made of them. Starts no pull."""
