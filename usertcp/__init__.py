"""usertcp: a TCP/IP stack in user space.

The ways in are :mod:`usertcp.blocking` (synchronous, the caller drives the stack), :mod:`usertcp.aio` (asyncio) and
:mod:`usertcp.socket` (the shape of the standard library's socket); below them lie the drivers, the links and a core
that does no I/O of its own. Importing the package imports none of them.
"""
