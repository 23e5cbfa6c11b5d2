"""Stand-ins for Pulumi's gcp and kubernetes plugins where the official ones are not installed."""
