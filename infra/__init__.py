"""What a cluster is: the Pulumi program.

Importing it reads no configuration and calls no service; `infra.program.declare` does.
It does not wait for nodes, run studies or collect events: that is `experiment`.
"""
