"""The command line: thin commands over the REST API. Modules import what is heavy inside functions, so help is fast."""
