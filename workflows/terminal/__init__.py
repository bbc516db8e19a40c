"""What a person reads: tables that fit the terminal, texts safe to print, numbers with the digits that differ."""
