"""What a cluster is: the Pulumi program.

Importing it reads no configuration and talks to nobody; `infra.program.declare` does.
It deliberately does not wait for nodes, run studies or collect events: that is the runner's.
"""
