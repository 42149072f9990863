"""Models behind an API: one thin client, and what is known of servers, models, keys and prices."""
