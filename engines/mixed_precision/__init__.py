"""What half precision must leave to float32, and how that is found."""
