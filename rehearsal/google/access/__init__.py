"""Who may do what at the local Google: tokens, accounts, bindings and their conditions."""
