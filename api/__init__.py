"""The REST API (`api.app`), its HTTP server (`api.server`) and the command line over it (`api.cli`)."""
