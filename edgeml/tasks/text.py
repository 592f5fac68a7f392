"""The text contract: one tokenizer file, and one function from any string to the model's ids.

Training, calibration, edge, Triton and HTTP all call :meth:`TextTask.prepare`. The ``tokenizers``
library alone runs the file; its truncation and padding are fixed inside it, so that whoever else
loads it gets the same ids. What this module refuses to do: guess at text that is not valid Unicode.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeml.core.predictor import Prediction
from edgeml.core.signature import ModelSignature, Tensors, TensorSpec
from edgeml.errors import InputError
from edgeml.tasks.classification import ClassLabels

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TOKENIZER = "tokenizer.json"
INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"
OUTPUT = "probabilities"

MAX_CHARACTERS = 16_000_000
# What is read of a text at most, for each token of the model: words are shorter than this.
MAX_CHARACTERS_PER_TOKEN = 1000

_KNOWN_INPUTS = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)
# A text longer than this many characters a token is read piece by piece: see `_encode`.
_CHARACTERS_PER_TOKEN = 40
# Characters at a piece's end that may belong to a torn word: what is kept must end before them.
_TORN_CHARACTERS = 1000
# Padded tokens of one batch: more gains nothing once a core's cache is full.
_BATCH_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class TextPreprocessing:
    """How a text becomes tensors.

    Attributes:
        max_length: Tokens, special ones included, after which a text is cut.
        inputs: The model's inputs, of ``input_ids``, ``attention_mask``, ``token_type_ids``.
        pad_id: Id that fills shorter rows of a batch.
        tokenizer_sha256: Hash of the tokenizer's file.
    """

    max_length: int
    inputs: tuple[str, ...]
    pad_id: int
    tokenizer_sha256: str

    def __post_init__(self) -> None:
        if self.max_length < 4 or self.pad_id < 0:
            raise ValueError(
                f"max_length is at least 4 and pad_id at least 0, got {self.max_length} and "
                f"{self.pad_id}"
            )
        unknown = [name for name in self.inputs if name not in _KNOWN_INPUTS]
        if unknown or INPUT_IDS not in self.inputs or ATTENTION_MASK not in self.inputs:
            raise ValueError(
                f"inputs are input_ids, attention_mask and perhaps token_type_ids, got "
                f"{', '.join(self.inputs)}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the contract as JSON values."""
        return {
            "kind": "text",
            "tokenizer": TOKENIZER,
            "tokenizer_sha256": self.tokenizer_sha256,
            "max_length": self.max_length,
            "inputs": list(self.inputs),
            "pad_id": self.pad_id,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TextPreprocessing:
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: The value is of another kind or malformed.
        """
        try:
            if value["kind"] != "text":
                raise ValueError(f"kind is {value['kind']!r}, expected 'text'")
            return cls(
                max_length=int(value["max_length"]),
                inputs=tuple(str(name) for name in value["inputs"]),
                pad_id=int(value["pad_id"]),
                tokenizer_sha256=str(value["tokenizer_sha256"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise InputError(
                f"the preprocessing contract is malformed ({exc}); export again"
            ) from exc


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text as the model's ids.

    Attributes:
        ids: int64 ``(tokens,)``, special tokens included, not padded.
        truncated: Whether the text had more.
    """

    ids: npt.NDArray[np.int64]
    truncated: bool


class TextTask:
    """Text classification: strings in, labelled probabilities out.

    Args:
        preprocessing: The contract.
        labels: Names of the classes.
        tokenizer: Contents of ``tokenizer.json``.

    Raises:
        InputError: The file is not the one that the contract names, or is no tokenizer.
        MissingExtraError: The ``tokenizers`` library is not installed.
    """

    window = 2048

    def __init__(
        self, preprocessing: TextPreprocessing, labels: ClassLabels, tokenizer: bytes
    ) -> None:
        self.preprocessing = preprocessing
        self.labels = labels
        found = hashlib.sha256(tokenizer).hexdigest()
        if found != preprocessing.tokenizer_sha256:
            raise InputError(
                f"the tokenizer has the sha256 {found[:12]}…; the contract names "
                f"{preprocessing.tokenizer_sha256[:12]}…; use the bundle that the model came from"
            )
        self.tokenizer_file = tokenizer
        self._tokenizer = open_tokenizer(tokenizer, max_length=preprocessing.max_length)

    @property
    def signature(self) -> ModelSignature:
        """The signature that every variant of such a bundle has."""
        return text_signature(self.preprocessing.inputs, num_classes=len(self.labels.names))

    def prepare(self, item: Any) -> EncodedText:
        """Turn one text into ids.

        An empty text becomes the special tokens alone, and is answered like any other. Only as
        much of a long text is read as it takes to fill the model, and never more than a thousand
        characters for each of its tokens.

        Args:
            item: A str of valid Unicode, of at most 16 million characters.

        Raises:
            InputError: It is not a str, holds a lone surrogate, or is too long.
        """
        if not isinstance(item, str):
            kind = type(item).__name__
            advice = "decode it first" if isinstance(item, (bytes, bytearray)) else "convert it"
            raise InputError(f"a {kind} is not a text; a str was expected; {advice}", got=kind)
        if len(item) > MAX_CHARACTERS:
            raise InputError(
                f"the text has {len(item)} characters; at most {MAX_CHARACTERS} were expected; "
                "cut it into parts",
                limit="max_characters",
                got=str(len(item)),
            )
        try:
            return self._encode(item)
        except (UnicodeEncodeError, TypeError) as exc:
            where = exc.start if isinstance(exc, UnicodeEncodeError) else _surrogate(item)
            raise InputError(
                f"the text holds a lone surrogate at character {where}; valid Unicode was "
                "expected; decode its bytes with errors='replace'"
            ) from exc

    def decode_golden(self, contents: bytes) -> str:
        """Return a golden text from its file."""
        return contents.decode()

    def collate(self, prepared: Sequence[EncodedText]) -> Tensors:
        """Join texts into one feed, padded on the right to the longest of them.

        Returns:
            int64 ``(batch, sequence)`` each.
        """
        return self.pad(prepared, length=max(len(row.ids) for row in prepared))

    def pad(self, prepared: Sequence[EncodedText], *, length: int) -> Tensors:
        """Join texts into one feed, padded on the right to ``length`` tokens."""
        shape = (len(prepared), length)
        if len(prepared) == 1 and len(prepared[0].ids) == length:  # nothing to pad
            feed = {
                INPUT_IDS: prepared[0].ids.reshape(shape),
                ATTENTION_MASK: np.ones(shape, np.int64),
            }
            return self._with_types(feed, shape)
        ids = np.full(shape, self.preprocessing.pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, text in enumerate(prepared):
            ids[row, : len(text.ids)] = text.ids
            mask[row, : len(text.ids)] = 1
        return self._with_types({INPUT_IDS: ids, ATTENTION_MASK: mask}, shape)

    def _with_types(self, feed: dict[str, npt.NDArray[Any]], shape: tuple[int, int]) -> Tensors:
        """Add the token types where the model takes them: one text is all of the first."""
        if TOKEN_TYPE_IDS in self.preprocessing.inputs:
            feed[TOKEN_TYPE_IDS] = np.zeros(shape, dtype=np.int64)
        return feed

    def batches(self, prepared: Sequence[EncodedText]) -> list[list[int]]:
        """Group texts of like length, so that little is padded.

        Returns:
            Indices into ``prepared``, each once.
        """
        return length_batches([len(row.ids) for row in prepared], max_tokens=_BATCH_TOKENS)

    def is_truncated(self, prepared: EncodedText) -> bool:
        """Return whether the text had more than the model was given."""
        return prepared.truncated

    def interpret(
        self, outputs: Mapping[str, npt.NDArray[Any]], *, served_by: str
    ) -> list[Prediction]:
        """Turn the model's probabilities into predictions."""
        return self.labels.interpret(outputs[OUTPUT], served_by=served_by)

    def _encode(self, text: str) -> EncodedText:
        """Tokenize as much of a text as fills the model.

        A tokenizer reads all of a text before it cuts: seconds and gigabytes for ten megabytes. So
        a long one is read in a growing prefix, until what is kept ends well before the prefix does,
        or the prefix has a thousand characters a token.
        """
        size = _CHARACTERS_PER_TOKEN * self.preprocessing.max_length
        most = MAX_CHARACTERS_PER_TOKEN * self.preprocessing.max_length
        if size < len(text):
            text.encode()  # what is not read must be valid, too
        while size < len(text):
            encoding = self._tokenizer.encode(text[:size])
            if size >= most or _lost_from(encoding) <= size - _TORN_CHARACTERS:
                return EncodedText(np.array(encoding.ids, dtype=np.int64), truncated=True)
            size = min(2 * size, most)
        encoding = self._tokenizer.encode(text)
        ids = np.array(encoding.ids, dtype=np.int64)
        return EncodedText(ids, truncated=bool(encoding.overflowing))


def length_batches(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Group rows of like length into batches of at most ``max_tokens`` padded tokens.

    Rows are sorted by length, so that a batch pads each only to its longest. A batch is closed
    early where the next row would make the others grow by more than an eighth.

    Args:
        lengths: Tokens of each row.
        max_tokens: Rows times longest row of one batch; a longer row stands alone.

    Returns:
        Indices into ``lengths``, each once.
    """
    groups: list[list[int]] = []
    shortest = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        if groups and shortest * 9 >= length * 8:
            group = groups[-1]
            if (len(group) + 1) * length <= max_tokens:
                group.append(index)
                continue
        groups.append([index])
        shortest = length
    return groups


def text_signature(inputs: Sequence[str], *, num_classes: int) -> ModelSignature:
    """Return the signature of a text classifier with these inputs."""
    shape = ("batch", "sequence")
    return ModelSignature(
        inputs=tuple(TensorSpec(name=name, dtype="int64", shape=shape) for name in inputs),
        outputs=(TensorSpec(name=OUTPUT, dtype="float32", shape=("batch", num_classes)),),
    )


def open_tokenizer(contents: bytes, *, max_length: int) -> Tokenizer:
    """Open a tokenizer's file, with its truncation and without padding: ``collate`` pads.

    Args:
        contents: The file.
        max_length: What its truncation must say.

    Raises:
        InputError: It is no tokenizer, or cuts at another length.
        MissingExtraError: The ``tokenizers`` library is not installed.
    """
    from edgeml._optional import require

    require("tokenizers", extra="text")
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(contents)
    except Exception as exc:  # the library raises Exception itself
        raise InputError(
            f"{TOKENIZER} cannot be read ({exc}); a file of the tokenizers library was expected"
        ) from exc
    cut = tokenizer.truncation
    if cut is None or cut["max_length"] != max_length or cut["direction"] != "right":
        raise InputError(
            f"{TOKENIZER} cuts texts as {json.dumps(cut)}; the contract says {max_length} tokens "
            "from the left; export the bundle again"
        )
    tokenizer.no_padding()
    return tokenizer


def fix_tokenizer(contents: bytes, *, max_length: int, pad_id: int) -> bytes:
    """Return a tokenizer's file with truncation and padding written into it.

    Args:
        contents: The file as its model's authors publish it.
        max_length: Tokens after which a text is cut, special ones included.
        pad_id: Id that fills shorter rows.

    Raises:
        InputError: It is no tokenizer, or has no token of this id.
    """
    from edgeml._optional import require

    require("tokenizers", extra="text")
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(contents)
    except Exception as exc:
        raise InputError(
            f"{TOKENIZER} cannot be read ({exc}); a file of the tokenizers library was expected"
        ) from exc
    pad_token = tokenizer.id_to_token(pad_id)
    if pad_token is None:
        raise InputError(f"{TOKENIZER} has no token {pad_id}; the padding token was expected")
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding(pad_id=pad_id, pad_token=pad_token)
    return str(tokenizer.to_str(pretty=False)).encode()


def _lost_from(encoding: Encoding) -> float:
    """Return the character at which the first token that was cut off begins; infinity if none."""
    for part in encoding.overflowing:
        rows = zip(part.offsets, part.special_tokens_mask, strict=True)
        start = next((offsets[0] for offsets, special in rows if not special), None)
        if start is not None:
            return float(start)
    return math.inf


def _surrogate(text: str) -> int:
    return next((i for i, char in enumerate(text) if "\ud800" <= char <= "\udfff"), 0)
