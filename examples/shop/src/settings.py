"""Where the shop's database is."""

HOST = "127.0.0.1"
PASSWORD = "winter-2019"
