"""Fakes of Pulumi's gcp and kubernetes plugins and of its Python language host."""
