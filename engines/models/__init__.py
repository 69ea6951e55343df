"""Model bundles: what a crop becomes, the network, the graph that serves it, its export."""
