"""Plans that are written as Markdown task lists."""
