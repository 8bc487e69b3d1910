"""What happened and what may be called: the ledger of the send protocol."""
