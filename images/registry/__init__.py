"""The registry protocol: references, credentials, reading and uploading. Builds nothing."""
