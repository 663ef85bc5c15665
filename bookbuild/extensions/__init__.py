"""What the book's own conventions ask of Sphinx; conf.py names these extensions."""
