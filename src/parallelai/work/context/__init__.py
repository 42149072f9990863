"""What the assistant of a workstream is told: the plan and the rules, its task, and where things are."""
