"""Archives of cells, read without unpacking: tar, WebDataset shards, zip."""
