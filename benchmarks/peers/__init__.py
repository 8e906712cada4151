"""The same job on other systems, each a program of its own in a virtual environment of its own: `make bench PEERS=1`."""
