"""Makes a backup of the orders."""

import subprocess


def backup(name: str) -> None:
    """Pack a folder."""
    subprocess.run("tar czf backup.tar.gz " + name, shell=True, check=True)
