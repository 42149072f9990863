"""What DESIGN promises in numbers, measured: every figure beside a baseline that runs in the same minutes."""
