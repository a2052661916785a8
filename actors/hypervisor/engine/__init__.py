"""The agent's decisions, pure: domain XML, fitness of a host, states and errors, the ledger of jobs."""
