"""AES-128 in cipher feedback mode, for the simulated SNMPv3 agent only (FIPS 197, RFC 3826).

Slow and not hardened against timing: it protects nothing, it lets a test speak authPriv on loopback
without a further dependency.
"""

from __future__ import annotations

from functools import cache

_ROUNDS = 10
Block = list[int]


def _doubled(value: int) -> int:
    """Product with x in the field of AES."""
    return ((value << 1) ^ (0x11B if value & 0x80 else 0)) & 0xFF


@cache
def _sbox() -> tuple[int, ...]:
    """The substitution table, from its definition: inverse in the field, then an affine map."""
    exponents, value = [], 1
    for _ in range(255):
        exponents.append(value)
        value ^= _doubled(value)
    box = [0x63] * 256
    for power, element in enumerate(exponents):
        inverse = exponents[-power % 255]
        turned = [((inverse << n) | (inverse >> (8 - n))) & 0xFF for n in range(5)]
        box[element] = turned[0] ^ turned[1] ^ turned[2] ^ turned[3] ^ turned[4] ^ 0x63
    return tuple(box)


@cache
def _round_keys(key: bytes) -> tuple[tuple[int, ...], ...]:
    box = _sbox()
    words = [list(key[i : i + 4]) for i in range(0, 16, 4)]
    constant = 1
    for number in range(4, 4 * (_ROUNDS + 1)):
        word = words[-1]
        if number % 4 == 0:
            word = [box[b] for b in (*word[1:], word[0])]
            word[0] ^= constant
            constant = _doubled(constant)
        words.append([a ^ b for a, b in zip(words[-4], word, strict=True)])
    return tuple(tuple(b for word in words[i : i + 4] for b in word) for i in range(0, len(words), 4))


def _encrypted(block: bytes, key: bytes) -> bytes:
    """One block of 16 bytes."""
    box, keys = _sbox(), _round_keys(key)
    state = [a ^ b for a, b in zip(block, keys[0], strict=True)]
    for number in range(1, _ROUNDS + 1):
        state = [box[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]
        if number < _ROUNDS:
            state = _mixed(state)
        state = [a ^ b for a, b in zip(state, keys[number], strict=True)]
    return bytes(state)


def _mixed(state: Block) -> Block:
    """Every column multiplied by the fixed polynomial."""
    mixed: Block = []
    for at in range(0, 16, 4):
        a, b, c, d = state[at : at + 4]
        whole = a ^ b ^ c ^ d
        for one, following in ((a, b), (b, c), (c, d), (d, a)):
            mixed.append(one ^ whole ^ _doubled(one ^ following))
    return mixed


def encrypt(data: bytes, key: bytes, start: bytes) -> bytes:
    """Data enciphered with a key and an initial vector of 16 bytes each."""
    out, feedback = bytearray(), start
    for at in range(0, len(data), 16):
        feedback = bytes(a ^ b for a, b in zip(data[at : at + 16], _encrypted(feedback, key), strict=False))
        out += feedback
    return bytes(out)


def decrypt(data: bytes, key: bytes, start: bytes) -> bytes:
    """The reverse of :func:`encrypt`."""
    out, feedback = bytearray(), start
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        out += bytes(a ^ b for a, b in zip(part, _encrypted(feedback, key), strict=False))
        feedback = part
    return bytes(out)
