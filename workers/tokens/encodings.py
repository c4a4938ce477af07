"""Which encoding a model counts its tokens in."""

from orchestrator.contracts.errors import ConfigurationError
from workers.tokens.vocabulary import ENCODINGS

__all__ = ["encoding_for_model"]


def encoding_for_model(model: str, default: str | None = None) -> str:
    """The encoding of an OpenAI model by its name: `gpt-4o` has `o200k_base`. Others have none that is public.

    Args:
        model: a name as the provider spells it, dated and fine-tuned ones too.
        default: the encoding to estimate with where the model's own is not known or not carried.

    Raises:
        ConfigurationError: the model's encoding is not known, or is none of ENCODINGS, and there is no default.
    """
    from tiktoken.model import encoding_name_for_model

    try:
        encoding = encoding_name_for_model(model)
    except KeyError:
        problem = f"no encoding is known for model {model!r}"
    else:
        if encoding in ENCODINGS:
            return encoding
        problem = f"model {model!r} counts in encoding {encoding!r}, which is not carried"
    if default is not None:
        return default
    raise ConfigurationError(
        f"{problem}; name an encoding ({', '.join(sorted(ENCODINGS))}) to estimate with, or give the model's tokenizer"
    )
