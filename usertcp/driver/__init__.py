"""Where a stack, a link and a clock meet: the pump, the engine in a thread, asyncio, the simulated world."""
