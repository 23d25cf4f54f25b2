"""How bodies are read: JSON that cannot bring the reader down, and serializers that reject what they do not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class SafeJSONParser(JSONParser):
    """JSON as RFC 8259 has it, of text only.

    Nesting so deep that the parser gives up is the sender's mistake, not a crash; so is half a surrogate pair, which is
    no character and could be neither stored nor quoted in an answer.
    """

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:
        """The parsed body. Raises ParseError."""
        try:
            found = super().parse(stream, media_type, parser_context)
            json.dumps(found, ensure_ascii=False).encode()
        except RecursionError:
            raise ParseError("JSON parse error - nested too deeply") from None
        except UnicodeEncodeError:
            raise ParseError("JSON parse error - half a surrogate pair") from None
        return found


class Strict(serializers.Serializer):
    """Unknown fields are mistakes, so that a misspelt option is not silently ignored."""

    def to_internal_value(self, data: Any) -> Any:
        """As usual, after a look for names that are not fields."""
        if isinstance(data, Mapping):
            unknown = sorted(str(name) for name in set(data) - set(self.fields))
            if unknown:
                raise serializers.ValidationError(
                    {name: serializers.ErrorDetail("There is no such field.", code="unknown_field") for name in unknown}
                )
        return super().to_internal_value(data)


def read(kind: type[Strict], data: Any) -> dict[str, Any]:
    """The validated content of a body. Raises ValidationError (400)."""
    serializer = kind(data=data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
