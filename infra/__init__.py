"""What a cluster is: the Pulumi program."""
