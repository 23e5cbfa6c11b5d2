"""Cloud Logging over gRPC, as far as the runner and the log sink use it."""
