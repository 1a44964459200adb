"""A serial port as an asyncio transport: raw bytes, no flow control, no threads."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import Literal

BITS_PER_CHARACTER = 11
SILENT_CHARACTERS = 3.5
"""Silence that separates two RTU frames."""
READ_SIZE = 512


@dataclass(frozen=True, slots=True)
class Line:
    """How the port is set."""

    path: str
    baud_rate: int = 9600
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1

    @property
    def silence_s(self) -> float:
        """Silence before a frame, at least 1.75 ms as the standard has it above 19 200 baud. [s]"""
        return max(SILENT_CHARACTERS * BITS_PER_CHARACTER / self.baud_rate, 0.00175)


class SerialPort(asyncio.BaseTransport):
    """Writes to the port and gives what arrives to a protocol's ``data_received``."""

    def __init__(self, line: Line, protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._protocol = loop, protocol
        self._fd = _open_raw(line)
        loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._lost(OSError("the serial port was unplugged"))

    def _lost(self, error: OSError) -> None:
        self.close()
        self._protocol.connection_lost(error)

    def write(self, data: bytes) -> None:
        """Send a frame; a frame is shorter than the port's own buffer."""
        try:
            os.write(self._fd, data)
        except OSError as error:
            self._lost(error)

    def is_closing(self) -> bool:
        """True once the port is closed."""
        return self._fd < 0

    def abort(self) -> None:
        """The same as close: nothing is buffered here."""
        self.close()

    def close(self) -> None:
        """Release the port; harmless when repeated."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def _open_raw(line: Line) -> int:
    """File descriptor of the port, set and without blocking; raises OSError with what to do."""
    if sys.platform == "win32":
        raise OSError("serial ports are read on Linux and macOS only; use a gateway and rtu_over_tcp")
    import termios

    speed = getattr(termios, f"B{line.baud_rate}", None)
    if speed is None:
        raise OSError(f"this system has no speed of {line.baud_rate} baud; try 9600 or 19200")
    fd = os.open(line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        controls = termios.CS8 | termios.CREAD | termios.CLOCAL
        controls |= {"none": 0, "even": termios.PARENB, "odd": termios.PARENB | termios.PARODD}[line.parity]
        controls |= termios.CSTOPB if line.stop_bits == 2 else 0
        no_control_characters = termios.tcgetattr(fd)[6]
        no_control_characters[termios.VMIN], no_control_characters[termios.VTIME] = 1, 0
        termios.tcsetattr(fd, termios.TCSANOW, [0, 0, controls, 0, speed, speed, no_control_characters])
        termios.tcflush(fd, termios.TCIOFLUSH)
    except termios.error as error:
        os.close(fd)
        raise OSError(f"{line.path} is no serial port: {error}") from None
    return fd
