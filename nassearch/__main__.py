"""`python -m nassearch`."""

from nassearch.cli import main

main()
