"""How a report shows it: words, numbers, template, policy."""
