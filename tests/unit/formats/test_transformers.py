"""Pipelines of transformers from a folder; what their services answer."""

from __future__ import annotations

import json

import pytest

from mlspec.errors import MlspecError
from mlspec.formats import inspect_artifact, inspect_declared
from mlspec.spec.models import Artifact

TEXTS = [
    "the tumour is large and rough",
    "small and smooth",
    "Rough, rough, rough!",
    "nothing that is known: Ω",
    "",
    "large " * 2000,
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A small pipeline that classifies texts, and the folder that it was written to."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("repository")
    words = ["the", "tumour", "is", "large", "small", "and", "rough", "smooth", "nothing", ","]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*special, *words]))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32)
    config = transformers.BertConfig(
        vocab_size=len(words) + len(special),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        id2label={0: "benign", 1: "malignant", 2: "unclear"},
        label2id={"benign": 0, "malignant": 1, "unclear": 2},
    )
    model = transformers.BertForSequenceClassification(config).eval()
    steps = torch.optim.Adam(model.parameters(), lr=0.02)
    given = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    for _ in range(40):
        steps.zero_grad()
        model(**given, labels=torch.tensor([1, 0, 1, 2, 2, 1])).loss.backward()
        steps.step()
    made = transformers.pipeline(
        "text-classification", model=model, tokenizer=tokenizer, device="cpu"
    )
    made.save_pretrained(folder / "model")
    return made, folder


def test_labels_and_scores_are_those_of_the_pipeline(serve, pipeline):
    made, folder = pipeline
    artifact = Artifact(path="model", format="transformers")
    signature, answer, wrong = serve(
        folder, artifact, [{"text": text} for text in TEXTS], [{"text": 7}]
    )
    assert signature["columns"] == [{"name": "text", "type": "string"}]
    assert [output["type"] for output in signature["outputs"]] == ["string", "numbers"]
    expected = made(TEXTS, truncation=True)
    assert answer["predictions"] == [each["label"] for each in expected]
    assert len(set(answer["predictions"])) > 1
    assert [max(scores) for scores in answer["probabilities"]] == [
        each["score"] for each in expected
    ]
    labels = ["benign", "malignant", "unclear"]
    assert [labels[scores.index(max(scores))] for scores in answer["probabilities"]] == answer[
        "predictions"
    ]
    assert wrong["problems"] == [{"row": 0, "column": "text", "problem": "must be text"}]


def write(folder, config=None, tokenizer=None, weights="model.safetensors"):
    """The files of a model that are looked at before transformers sees it."""
    folder.mkdir(exist_ok=True)
    good = {"architectures": ["BertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(good if config is None else config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer or {}))
    (folder / weights).write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {"auto_map": {"AutoModel": "m.M"}}}, "its config.json, which is not run"),
        ({"tokenizer": {"auto_map": {"A": "m.T"}}}, "its tokenizer_config.json, which is not run"),
        ({"config": {"architectures": ["BertForMaskedLM"]}}, "for another task: BertForMaskedLM"),
        ({"config": []}, "its config.json is no JSON object"),
        ({"weights": "pytorch_model.bin"}, "has no weights of safetensors"),
    ],
    ids=["code", "tokenizer", "task", "list", "pickle"],
)
def test_what_is_not_served_is_refused(tmp_path, change, said):
    write(tmp_path / "model", **change)
    with pytest.raises(MlspecError, match=said) as caught:
        inspect_artifact(tmp_path / "model", "transformers")
    assert caught.value.hint


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    artifact = Artifact(path="model.safetensors", format="transformers")
    with pytest.raises(MlspecError, match="is not a folder of a model of transformers"):
        inspect_declared(artifact, tmp_path)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "model.pt").mkdir()
    artifact = Artifact(path="model.pt", format="torchscript")
    with pytest.raises(MlspecError, match="is a folder"):
        inspect_declared(artifact, tmp_path)
