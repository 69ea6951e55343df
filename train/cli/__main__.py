"""``python -m train.cli``: the command line."""

from train.cli.commands import main

main()
