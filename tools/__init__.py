"""What installs: the book itself (setup.py) and, for the tests, a browser and bubblewrap (system_packages.py)."""
