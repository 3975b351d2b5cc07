"""`python -m fusmae`: the command line."""

from fusmae.cli import main

main()
