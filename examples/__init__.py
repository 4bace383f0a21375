"""Examples: each one a file to run and to copy from. See README.md in this folder."""
