"""Encoders that others saved: train, eval, merge and predict, always with the same predictions."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from small_runs import QUICK, answers, read, run_bertft, write_classes
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

LINES = ['{"text": "The FILM was good"}\n', '{"text": "the film was bad, and Long, Song 3"}\n']
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40,
    "max_position_embeddings": 64, "pad_token_id": 0, "embedding_size": 16,
    "initializer_range": 0.2,
}  # fmt: skip


@pytest.fixture
def foreign(work_dir):
    """``foreign(kind, **config)``: a folder with a cased tokenizer of letters."""

    def make(kind, **config):
        letters = [chr(code) for code in range(33, 127)]
        words = [*BERT, *letters, *(f"##{letter}" for letter in letters)]
        tokenizer = Tokenizer(
            models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]")
        )
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.add_special_tokens(BERT)
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(
            transformers.AutoConfig.for_model(kind, **SIZES, vocab_size=len(words))
        )
        model.save_pretrained(work_dir / kind)
        tokenizer.save(str(work_dir / kind / "tokenizer.json"))
        stated = {"tokenizer_class": "BertTokenizer", "model_max_length": 64}
        (work_dir / kind / "tokenizer_config.json").write_text(json.dumps(stated))
        file = work_dir / kind / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
        return work_dir / kind

    return make


@pytest.mark.parametrize("kind", ["bert", "convbert"])
def test_a_foreign_encoder_from_training_to_answers(foreign, work_dir, kind):
    base = foreign(kind, output_attentions=True, return_dict=False)
    write_classes(work_dir / "a.csv", 32, seed=1)
    words = (
        "train", *QUICK[1:], "model=minilm", f"model.path={base}", "data=files", "data.train=a.csv",
        "data.validation=a.csv", "method=lora", "trainer.precision=fp32", "hydra.run.dir=run",
    )  # fmt: skip
    result = run_bertft(*words)
    assert result.status == 0, result
    assert ("rows run one at a time" in result.out + result.err) is (kind == "convbert")
    assert run_bertft("eval", "run=run", "hydra.run.dir=scored").status == 0
    validation = read(work_dir / "scored" / "metrics.json")["validation"]
    assert validation == read(work_dir / "run" / "metrics.json")["validation"]
    assert run_bertft("merge", "run=run", "out=merged").status == 0

    expected = [
        answer["score"]
        for answer in answers(run_bertft("predict", "run=run", stdin="".join(LINES)))
    ]
    alone = [answers(run_bertft("predict", "run=run", stdin=line))[0]["score"] for line in LINES]
    merged = [
        answer["score"]
        for answer in answers(run_bertft("predict", "run=merged", stdin="".join(LINES)))
    ]
    assert alone == pytest.approx(expected, abs=1e-6) and merged == pytest.approx(
        expected, abs=1e-5
    )
    # Capitals count, for plain transformers too.
    saved = transformers.AutoTokenizer.from_pretrained(work_dir / "merged")
    assert saved("FILM")["input_ids"] != saved("film")["input_ids"]


def test_a_deeper_head_and_a_length_that_the_model_does_not_take(trained, work_dir):
    assert (
        run_bertft("merge", f"run={trained('classification', 'method=lora')}", "out=merged").status
        == 0
    )
    file = work_dir / "merged" / "bertft.json"
    facts = read(file)
    file.write_text(json.dumps({**facts, "max_length": 100_000}))
    result = run_bertft("predict", "run=merged", stdin=LINES[0])
    assert result.refused and "merged/bertft.json: max_length is 100,000" in result.err, result
    file.write_text(json.dumps(facts))

    weights = work_dir / "merged" / "model.safetensors"
    norm = {"classifier.norm.weight": torch.ones(64), "classifier.norm.bias": torch.ones(64)}
    save_file({**load_file(weights), **norm}, weights, metadata={"format": "pt"})
    result = run_bertft("predict", "run=merged", stdin=LINES[0])
    assert result.refused and "does not use the weights classifier.norm.bias" in result.err, result
    words = (
        "data=files",
        f"data.train={work_dir / 'a.csv'}",
        "model.path=merged",
        "trainer.max_steps=1",
    )
    write_classes(work_dir / "a.csv", 32, seed=1, names=("bad", "good"))
    assert (
        run_bertft("train", *QUICK[1:-1], *words, "hydra.run.dir=next").status == 0
    )  # its head is new
