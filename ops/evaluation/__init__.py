"""`millstream evaluate`: what is asked for, and how its figures are shown."""
