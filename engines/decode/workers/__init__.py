"""
Decoding in processes of its own: one pool of workers, which a bad cell cannot take the run from.

A worker reads, hashes, checks and decodes cells and hands their pixels over in shared memory. It
bounds each cell's processor time and memory; if it dies, its cells are tried again, and the cell
that kills it is set aside. ``decoder`` is what the rest of the program sees.
"""
