"""`python -m lastgood`: as the command."""

from lastgood.cli import main

main()
