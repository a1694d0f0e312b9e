"""What a person runs: one file a command, gathered by `hrm-gym` in `main.py`. Nothing imports from here."""
