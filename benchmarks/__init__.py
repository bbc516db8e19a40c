"""What each part costs here, against a plain implementation of the published way."""
