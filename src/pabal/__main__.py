"""`python -m pabal` is the `pabal` command."""

from pabal.cli.main import main

main()
