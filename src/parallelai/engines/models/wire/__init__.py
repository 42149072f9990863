"""The three formats in which model APIs are spoken to: pure builders and readers, without any I/O."""
