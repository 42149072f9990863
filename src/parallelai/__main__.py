"""Run the command line by `python -m parallelai`."""

from parallelai.cli import main

if __name__ == "__main__":
    main()
