"""Reads the signature of a pipeline of transformers; runs in the child process of `mlspec.formats`.

A folder in the layout of Hugging Face, as `pipeline.save_pretrained` writes it, with its weights as
safetensors and its tokenizer. It classifies texts: a row is one text, its prediction the label with
the highest score, its probabilities the scores of all labels in their order. Nothing is downloaded
and no code of the folder is run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mlspec.formats.answers import ROWS, describe_outputs
from mlspec.formats.inspect import HOW_TO_SAVE, Unservable
from mlspec.formats.tensors import first_line

KIND = "a folder of a model of transformers"
SAVE = HOW_TO_SAVE["transformers"]
TASK = "ForSequenceClassification"
CONFIGS = ("config.json", "tokenizer_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
TEXT = "a text"


def read_signature(path: Path) -> dict[str, Any]:
    """Run it on two rows and say what it takes and gives."""
    if not path.is_dir():
        raise Unservable(f"is not {KIND}, but a file", SAVE)
    config = _check(path)
    architectures = config.get("architectures") or ["none"]
    if not str(architectures[0]).endswith(TASK):
        hint = "models that classify texts are served; serve others by `format: python`"
        raise Unservable(f"is a model for another task: {architectures[0]}", hint)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    import torch
    from transformers import pipeline

    torch.set_num_threads(1)
    try:
        answer = pipeline(
            "text-classification",
            model=str(path),
            device="cpu",
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
        labels = list(answer.model.config.id2label.values())
        if len(set(labels)) < len(labels):
            raise Unservable("has two labels of one name", "give them names: config.id2label")
        found = answer([TEXT] * ROWS, top_k=None, truncation=True)
    except Unservable:
        raise
    except Exception as error:  # whatever its reader raises
        raise Unservable(f"is not {KIND}: {first_line(error)}", SAVE) from None
    scores = [
        [{each["label"]: each["score"] for each in row}[name] for name in labels] for row in found
    ]
    return {
        "columns": [{"name": "text", "type": "string"}],
        "layout": "rows",
        "input": None,
        "outputs": describe_outputs([row[0]["label"] for row in found], scores),
        "example": {"text": TEXT},
    }


def _check(folder: Path) -> dict[str, Any]:
    """What its `config.json` says; `Unservable` if it lacks a part or has code of its own."""
    if not (folder / CONFIGS[0]).is_file():
        raise Unservable(f"is not {KIND}: it has no {CONFIGS[0]}", SAVE)
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise Unservable(f"has no weights of safetensors: no {WEIGHTS[0]}", SAVE)
    if not (folder / CONFIGS[1]).is_file():
        raise Unservable("has no tokenizer", SAVE)
    configs = []
    for name in CONFIGS:
        try:
            config = json.loads((folder / name).read_text(encoding="utf-8"))
        except ValueError:
            config = None
        if not isinstance(config, dict):
            raise Unservable(f"is not {KIND}: its {name} is no JSON object", SAVE)
        if any(each in config for each in ("auto_map", "custom_pipelines")):
            raise Unservable(
                f"needs code of its own, says its {name}, which is not run",
                "serve it by a class of your own: `format: python`",
            )
        configs.append(config)
    return configs[0]
