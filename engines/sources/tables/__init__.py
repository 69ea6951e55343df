"""Sources that are tables: manifests of files, boxes on fields, Parquet with images in it."""
