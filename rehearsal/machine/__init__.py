"""This machine: folders, processes, cgroups, requirements. Knows no cluster and no Google."""
