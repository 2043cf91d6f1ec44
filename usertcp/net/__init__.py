"""One host: addresses, neighbours, routes, flows, and the stack that ties them to connections. Does no I/O."""
