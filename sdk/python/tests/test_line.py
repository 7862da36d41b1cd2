"""Lines as bytes."""

import json
import unittest
from typing import Any

from posta.line import MAX_DEPTH, NotJSON, Splitter, encode, has_duplicate_keys

from .test_conformance import nested


class Encode(unittest.TestCase):
    def test_text_stays_utf8(self) -> None:
        self.assertEqual(encode({"a": "ñ€😀"}), '{"a":"ñ€😀"}'.encode())

    def test_what_a_server_would_refuse_is_refused_here(self) -> None:
        loop: Any = []
        loop.append(loop)
        deep = nested(100_000)
        for value in (object(), {1, 2}, b"x", float("nan"), float("inf"), "\ud800", {"a": {"\udfff": 1}}, loop, deep):
            with self.subTest(repr(type(value))), self.assertRaises(NotJSON):
                encode(value)
        while deep:  # a deep list would be freed by a deep recursion
            deep = deep[0]

    def test_depth_is_counted_not_brackets(self) -> None:
        self.assertEqual(json.loads(encode([[]] * 1000)), [[]] * 1000)
        self.assertEqual(json.loads(encode("[" * 1000)), "[" * 1000)
        self.assertEqual(json.loads(encode(nested(MAX_DEPTH))), nested(MAX_DEPTH))
        with self.assertRaises(NotJSON):
            encode(nested(MAX_DEPTH + 1))
        with self.assertRaises(NotJSON):
            encode({"a": (nested(MAX_DEPTH - 1),)})

    def test_duplicate_keys_are_found(self) -> None:
        self.assertTrue(has_duplicate_keys(b'{"a":[{"1":1,"1":2}]}'))
        self.assertFalse(has_duplicate_keys(b'{"a":[{"1":1},{"1":2}]}'))


class Split(unittest.TestCase):
    def test_lines_are_the_same_however_the_bytes_are_cut(self) -> None:
        data = 'uno\n\n\r\ndós\r\n{"a":1}\nhalf'.encode()
        want = [b"uno", "dós\r".encode(), b'{"a":1}']
        for size in range(1, len(data) + 1):
            splitter = Splitter()
            got = []
            for at in range(0, len(data), size):
                got += splitter.feed(data[at : at + size])
            self.assertEqual(got, want, "pieces of %d bytes" % size)
            self.assertEqual(splitter.feed(b"\n"), [b"half"])


if __name__ == "__main__":
    unittest.main()
