"""What the program promises about files that are damaged, or that strangers made. Read it as a list of promises."""
