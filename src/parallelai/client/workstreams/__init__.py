"""Workstreams for the facade: started, looked at, steered, landed, also by hand."""
