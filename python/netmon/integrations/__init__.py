"""netmon for the frameworks that people train with: one package each, which imports its framework only when it is used."""
