"""Sans-I/O codecs: bytes to messages and back. No socket, no clock, no print."""
