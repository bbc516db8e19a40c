"""Tables of a paper: what a layout file asks, the cells it gets, and how sure they are."""
