"""What this machine does with cells, stage by stage, and which stage limits it."""
