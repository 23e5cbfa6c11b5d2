"""The cluster, up and down, by Pulumi and Google's APIs. Measures nothing."""
