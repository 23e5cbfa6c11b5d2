"""Where `pulumi up` enters."""

from infra.program import declare

declare()
