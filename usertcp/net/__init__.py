"""One host on one network: addresses, neighbours, routes, ports, and the stack that ties them to TCP."""
