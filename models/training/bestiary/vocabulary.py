"""The tokenizer: the grammar's words whole, everything else (creatures' names) letter by letter."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

MAX_TOKENS = 32
PAD, UNKNOWN, MASK = "[PAD]", "[UNK]", "[MASK]"
PAD_ID, UNKNOWN_ID, MASK_ID = 0, 1, 2

WORDS = tuple(
    # articles, places, sizes
    "a an the on in of with and at seen close up small medium large left middle right tilted turned picture"
    # backgrounds
    " meadow desert snow night sea sunset forest cave volcano blossom"
    # looks (used by the joint encoders' descriptive captions)
    " red orange yellow green teal blue purple pink brown white grey black"
    " round tall wide square pear drop dome peanut shaped"
    " plain spotted striped bellied dipped starred spots stripes belly star"
    " pointed rounded long ears horns antennae unicorn horn"
    " one two three eye eyes puffy pointy tail short feet legs creature"
    " curly jagged wings feathered leathery mouth smile fangs beak tongue"
    # weathers, things, poses, hidden views
    " rain rainbow scarf balloon gift jumping from behind half bush".split()
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_MARKS = ",.-'!?"


def build_tokenizer() -> Tokenizer:
    """Lowercase WordPiece; padding and truncation to `MAX_TOKENS` are part of the file."""
    pieces = [PAD, UNKNOWN, MASK, *dict.fromkeys(WORDS)]
    for letter in _LETTERS + _DIGITS:
        pieces += [p for p in (letter, "##" + letter) if p not in pieces]
    pieces += list(_MARKS)
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding(length=MAX_TOKENS, pad_id=PAD_ID, pad_token=PAD)
    return tokenizer


def write_tokenizer(path: Path) -> None:
    build_tokenizer().save(str(path))


def encode(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns token ids and attention mask, both i64 [len(texts), MAX_TOKENS]."""
    rows = tokenizer.encode_batch(texts)
    return (
        np.array([r.ids for r in rows], dtype=np.int64),
        np.array([r.attention_mask for r in rows], dtype=np.int64),
    )
