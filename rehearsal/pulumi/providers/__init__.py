"""Fakes of Pulumi's gcp and kubernetes providers, which speak the engine's gRPC protocol.

They replace the official plugins where those are not installed. They implement the resource types
and properties that `infra` declares and refuse everything else. The gcp fake sends what the
official provider sends, to the endpoints in GOOGLE_..._CUSTOM_ENDPOINT; a test compares it with
recorded requests of the official provider.
"""
