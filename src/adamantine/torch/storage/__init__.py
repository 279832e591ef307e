"""`adamantine.formats` at work: what a state consists of, how it is read, written and converted."""
