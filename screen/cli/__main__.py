"""``python -m screen.cli``: the command line."""

from screen.cli.main import main

main()
