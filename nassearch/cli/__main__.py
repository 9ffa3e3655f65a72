"""`python -m nassearch.cli`."""

from nassearch.cli import main

main()
