"""Whose name it is: what the kernel says of its AF_UNIX sockets, and what is made of it when it says nothing."""

import errno
import os
import socket as kernel

import pytest

from usertcp.driver import diag, messages


def inode(sock: kernel.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def test_socket_is_found_by_its_inode_with_its_name_as_it_is() -> None:
    name = b"\0" + os.urandom(8) + b"\n0: 1 @usertcp"
    with kernel.socket(kernel.AF_UNIX) as sock, kernel.socket(kernel.AF_UNIX) as other:
        assert diag.name_of(inode(sock)) == b""
        sock.bind(name)
        assert diag.name_of(inode(sock)) == name
        assert diag.may_be_called(inode(sock), name)
        assert not diag.may_be_called(inode(other), name)
        gone = inode(sock)
    assert diag.name_of(gone) is None
    assert not diag.may_be_called(gone, name)


def test_other_end_lives_until_its_last_descriptor_is_closed_however_it_is_shut() -> None:
    ours, theirs = kernel.socketpair()
    with ours:
        copy = theirs.dup()
        ours.shutdown(kernel.SHUT_RDWR)
        theirs.close()
        assert diag.other_end_lives(inode(ours))
        copy.close()
        assert not diag.other_end_lives(inode(ours))
    with kernel.socket(kernel.AF_UNIX) as alone:
        assert not diag.other_end_lives(inode(alone))


def test_identity_of_a_program_s_socket_tells_its_inode() -> None:
    fd, ident = messages.create()
    try:
        assert messages.inode(ident) == os.fstat(fd).st_ino
    finally:
        os.close(fd)
    assert messages.inode(messages.new_ident()) == 0


def test_kernel_that_does_not_say_whose_name_it_is_gives_the_benefit_of_the_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: int) -> bytes:
        raise OSError(errno.EPROTONOSUPPORT, "no such protocol")

    for says in (lambda *_: None, refuse):  # without CONFIG_UNIX_DIAG, and without CONFIG_NETLINK or the right to it
        monkeypatch.setattr(diag, "_asked", says)
        assert diag.may_be_called(1, b"\0x")
        assert diag.other_end_lives(1)
