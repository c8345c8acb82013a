"""Codecs: `Json(T)`, `Text` and `Bytes`. They are typed, so that ``Record[T].value`` is too."""

from __future__ import annotations

import re
from typing import Any, Final, Generic, Protocol, cast

import msgspec
from typing_extensions import TypeVar, override

from .errors import DecodeError, UsageError
from .ports.codec import Codec

__all__ = ["Bytes", "Codec", "Json", "Text"]

T = TypeVar("T")


class Bytes:
    """The data as it is: what happens without a codec, for where one has to be named."""

    def decode(self, data: bytes) -> bytes:
        """Return *data*."""
        return data

    def encode(self, value: bytes) -> bytes:
        """Return *value*. Raises `UsageError` unless it is bytes."""
        if not isinstance(value, bytes):
            raise UsageError(f"Bytes() takes bytes, not {type(value).__name__}")
        return value


class Text:
    """UTF-8 text."""

    def decode(self, data: bytes) -> str:
        """Return the text in *data*. Raises `DecodeError` if it is not UTF-8."""
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"not UTF-8 at byte {error.start}") from None

    def encode(self, value: str) -> bytes:
        """Return *value* as UTF-8. Raises `UsageError` if it is not text that UTF-8 can express."""
        if not isinstance(value, str):
            raise UsageError(f"Text() takes str, not {type(value).__name__}")
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise UsageError("the text holds half of a surrogate pair") from None


class Json(Generic[T]):
    """JSON that holds a *T*: whatever msgspec decodes (``Struct``, dataclass, ``TypedDict``,
    ``list[int]``, ...) or a pydantic model. The form of *T* is checked on every decode.

        Worker("local:orders.db#orders", group="billing", codec=Json(Order))

    Raises `UsageError` when made with a type that neither can decode.
    """

    def __init__(self, type: type[T]) -> None:  # noqa: A002  (reads as what it is: Json(type=Order))
        self._name = getattr(type, "__name__", str(type))
        # Asked by its method, so that pydantic is not imported for those who do not use it.
        self._format: _Format = (
            _Pydantic(type) if hasattr(type, "model_validate_json") else _Msgspec(type)
        )

    def decode(self, data: bytes) -> T:
        """Return the value in *data*. Raises `DecodeError` with the place, never the content."""
        try:
            return cast("T", self._format.decode(data))
        except (ValueError, RecursionError) as error:  # msgspec's and pydantic's are ValueErrors
            # `from None`: the errors' own texts quote the payload, and tracebacks end up in logs.
            raise DecodeError(f"not JSON of {self._name}: {self._format.explain(error)}") from None

    def encode(self, value: T) -> bytes:
        """Return *value* as JSON. Raises `UsageError` if it has no such form."""
        try:
            return self._format.encode(value)
        except (TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{type(value).__name__} is not JSON of {self._name}: {error}"
            ) from error

    @override
    def __repr__(self) -> str:
        return f"Json({self._name})"


class _Format(Protocol):
    def decode(self, data: bytes) -> Any: ...
    def encode(self, value: Any) -> bytes: ...
    def explain(self, error: Exception) -> str: ...


_OURS: Final = re.compile(
    r"Expected .*|Input data was truncated|JSON is malformed.*|Object missing required field .*"
    r"|(?:Invalid [a-z ]+|Object contains unknown field)(?= ['`\d])|Invalid [A-Za-z0-9 -]+"
)
_PLACE: Final = re.compile(r" - at `(?:key in )?\$[^`]*`$")
"""What msgspec says of data, without the values it quotes."""


class _Msgspec:
    def __init__(self, kind: Any) -> None:
        try:
            self._decoder = msgspec.json.Decoder(kind)
        except TypeError as error:
            raise UsageError(f"Json({kind!r}): {error}") from None
        self._encoder = msgspec.json.Encoder()

    def decode(self, data: bytes) -> Any:
        return self._decoder.decode(data)

    def encode(self, value: Any) -> bytes:
        return self._encoder.encode(value)

    def explain(self, error: Exception) -> str:
        if isinstance(error, UnicodeDecodeError):
            return "text that is not UTF-8"
        if isinstance(error, RecursionError):
            return "nested too deep"
        text = str(error)
        place = _PLACE.search(text)
        said = _OURS.match(text[: place.start()] if place else text)
        # Anything else is the text of a check of the user's own, which may quote the payload.
        return (said[0] if said else "refused by a check") + (place[0] if place else "")


class _Pydantic:
    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def decode(self, data: bytes) -> Any:
        return self._kind.model_validate_json(data)

    def encode(self, value: Any) -> bytes:
        return cast("str", value.model_dump_json()).encode()

    def explain(self, error: Exception) -> str:
        """Return the first error's place and kind: pydantic's own text quotes the input."""
        if isinstance(error, RecursionError):
            return "nested too deep"
        details: Any = error
        first = details.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
        )
        return f"{first['type']} - at `${place}`"
