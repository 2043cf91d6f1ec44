"""The standard ``socket`` module turned into usertcp's while a program runs that knows nothing of it.

``place`` puts the methods in place, ``bypass`` warns of what goes past them, ``children`` passes both on.
"""
