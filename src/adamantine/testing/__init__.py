"""The conformance kit: what an optimizer promises by being one, as checks for anybody's class."""
