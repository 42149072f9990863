"""Any program as an engine, and assistants without a protocol as ready-made commands."""
