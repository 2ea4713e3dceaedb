"""What makes the site beside the documents: hooks of MkDocs and the reading of docstrings."""
