"""Only the names that OpenRLHF imports: packed samples and ring attention need a GPU."""
