"""Settings that are right alone and wrong together; and the like that is right."""

from __future__ import annotations

import pytest

WRONG = [
    ("method=prefix method.rank=4", "method.rank: is not supported by method=prefix"),
    ("method=full method.initial_rank=4", "method.initial_rank: is not supported by method=full"),
    ("method=prefix method.low_rank.alpha=4", "method.rank: is missing"),
    ("method=lora method.initial_rank=12", "method.initial_rank: is not supported by method=lora"),
    ("method=svd_lora method.rank=8 method.initial_rank=4", "4 is below method.rank=8"),
    ("method=lora method.low_rank.l1=0.1", "method.low_rank.l1: is not supported by method=lora"),
    ("method=lora method.low_rank.begin=0.2", "method.low_rank.begin: is not supported"),
    ("method=lora method.low_rank.adapt=false", "method.low_rank.adapt: is not supported"),
    ("method=svd_lora method.low_rank.use_dora=true", "method.low_rank.use_dora: is not supported"),
    ("method=vera method.low_rank.use_rslora=true", "use_rslora: is not supported"),
    ("method=vera method.low_rank.start_batches=4", "start_batches: is not supported"),
    ("method=lora method.low_rank.start_batches=4", "start_batches: has no effect"),
    (
        "method=svd_lora method.low_rank.start=gaussian method.low_rank.start_batches=4",
        "no effect with method.low_rank.start=gaussian",
    ),
    ("method=svd_lora trainer.ema=0.9", "trainer.ema: is not supported"),
    ("method=lora method.low_rank.start=gaussian", "'gaussian' is not supported by method=lora"),
    (
        "method=svd_lora method.low_rank.start=principal",
        "'principal' is not supported by method=svd_lora",
    ),
    (
        "method=svd_lora method.low_rank.begin=0.6 method.low_rank.end=0.4",
        "leave no steps for pruning",
    ),
    ("method=vera method.initial_rank=300", "method.initial_rank: is not supported by method=vera"),
    ("method=vera method.low_rank.alpha=4", "alpha: is not supported by method=vera"),
    ("method=vera method.low_rank.start=zero_b", "start: is not supported by method=vera"),
    ("method=vera method.low_rank.b_rate_ratio=4", "b_rate_ratio: is not supported by method=vera"),
    ("method=lora method.low_rank.d_initial=1", "d_initial: is not supported by method=lora"),
    ("method=ia3 method.ia3.targets=[]", "method.ia3.targets: [] is not a list of layers"),
    ("method=ia3 method.ia3.feedforward=3", "method.ia3.feedforward: 3 is not a list of layers"),
    ("method=ia3 method.ia3.targets=key,value", "method.ia3.targets: 'key,value' is one name"),
    ("method=ia3 method.rank=4", "method.rank: is not supported by method=ia3"),
    ("data=files data.train=a.csv data.format=conll", "data.format: conll is not supported by"),
    ("data=files data.train=[a.csv,b.csv]", "data.train=a.csv: there is no such file"),
    ("data=files data.train=x/*.csv", "data.train=x/*.csv: no file matches the pattern"),
    ("data=files data.train=a.csv data.text=@file", "data.text: @file is not a text column"),
    ("data=files data.train=a.csv data.text=[a,@folder]", "@folder is not a text column"),
    ("data=files data.train=- data.label=@file", "data.label: @file is not supported by"),
    (
        "data=files data.train=a.csv data.label=@file data.task=token_classification",
        "data.label: @file is not supported by data.task=token_classification",
    ),
    (
        "method=full trainer.cache_frozen=true",
        "trainer.cache_frozen: is not supported by method.base.train=everything",
    ),
    ("method=bitfit trainer.cache_frozen=true", "by method.base.train=biases, which trains"),
    ("method=prefix trainer.cache_frozen=true", "by method.prefix, which changes every layer"),
    (
        "method=head data=text data.train=a.txt trainer.cache_frozen=true",
        "which masks different tokens in every epoch",
    ),
    (
        "method=head trainer.max_steps=0 trainer.cache_frozen=true",
        "by trainer.max_steps=0, which trains nothing. Set it to auto or false",
    ),
    ("trainer.cache_frozen=yes", "One of: auto, true, false"),
    ("method=lora method.low_rank.targets=[]", "[] is not a list of layers"),
    ("method=lora method.low_rank.targets=3", "3 is not a list of layers"),
    ("method=lora method.low_rank.targets=query,value", "Write a list"),
    (
        "method=full method.base.last_k=2",
        "method.base.last_k: is not supported by method.base.train=everything",
    ),
    ("method=full method.base.train=last_k", "method.base.last_k: is missing"),
    (
        "method=lora method.base.layer_decay=0.9",
        "method.base.layer_decay: is not supported by method=lora, which does not train",
    ),
    (
        "method=full method.base.train=nothing method.base.layer_decay=0.9",
        "method.base.layer_decay: has no effect with method.base.train=nothing",
    ),
    (
        "method=prefix method.prefix.mlp_hidden=64",
        "has no effect with method.prefix.mlp=false. Leave it out, or set method.prefix.mlp=true",
    ),
    (
        "method=prefix method.prefix.kind=prompt method.prefix.mlp_hidden=64",
        "method.prefix.mlp_hidden: is not supported by method.prefix.kind=prompt",
    ),
    (
        "method=prefix method.prefix.kind=prompt method.prefix.start_scale=0.5",
        "method.prefix.start_scale: is not supported by method.prefix.kind=prompt",
    ),
    (
        "method=lora_prefix method.prefix.kind=prompt method.prefix.start_scale=0.5",
        "method.prefix.start_scale: is not supported by method.prefix.kind=prompt",
    ),
    (
        "method=prefix method.prefix.kind=prompt method.prefix.mlp=true",
        "is not supported by method.prefix.kind=prompt",
    ),
    ("method=distill", "is missing: it is required by method.distill.weight=0.5"),
    (
        "method=distill method.distill.hidden_weight=1",
        "method.distill.weight=0 and method.distill.hidden_weight=0",
    ),
    (
        "method=distill method.distill.weight=0 method.distill.student_layers=3",
        "is required by method.distill.student_layers",
    ),
    (
        "method=distill method.distill.weight=0 method.distill.hard_weight=1",
        "has no effect without a loss",
    ),
    ("method=distill method.distill.student_layers=0", "0 is not a number or list of layers"),
    (
        "method=lora method.distill.teacher=t method.distill.student_layers=[2,0]",
        "is not a number or list of layers",
    ),
    (
        "method=lora method.distill.teacher=t method.distill.layer_map=top",
        "'top' is not a layer map",
    ),
    ("method=lora method.distill.teacher=t method.distill.layer_map=last", "hidden_weight"),
    ("method=lora method.distill.teacher=t method.distill.relation_heads=2", "relation_weight"),
    (
        "method=lora method.distill.teacher=t method.distill.hidden_weight=1 "
        "method.distill.cache=memory",
        "memory has no effect",
    ),
    ("method=distill method.distill.teacher=[]", "[] is not a teacher or a list of teachers"),
    ("method=distill method.distill.teacher=[a,a]", "a teacher is listed twice"),
    ("method=distill method.distill.teacher=[o/a,./o/a/]", "a teacher is listed twice"),
    (
        "method=distill method.distill.teacher=t method.distill.inner_fraction=0.5",
        "method.distill.inner_fraction: requires a loss on inner states",
    ),
    (
        "method=distill method.distill.teacher=t method.distill.inner_fraction=0.5"
        " method.distill.hidden_weight=1 method.distill.weight=0 method.distill.hard_weight=0",
        "requires a loss on outputs or labels for the second stage",
    ),
    (
        "method=distill method.distill.teacher=t method.distill.hidden_weight=1"
        " method.distill.weight=0 method.distill.augment=2",
        "method.distill.augment: has no effect with method.distill.weight=0",
    ),
    (
        "method=distill method.distill.teacher=t method.distill.augment_probability=0.2",
        "method.distill.augment_probability: has no effect with method.distill.augment=0",
    ),
    (
        "data=files data.train=a data.unlabelled=b",
        "data.unlabelled: is not supported without a teacher",
    ),
    (
        "data=files data.train=a data.unlabelled=b method=distill method.distill.teacher=t"
        " method.distill.hidden_weight=1 method.distill.weight=0",
        "data.unlabelled: is not supported by method.distill.weight=0",
    ),
    ("trainer.epochs=1 trainer.max_steps=5", "cannot be combined with"),
    ("trainer.batch_size=8 trainer.micro_batch=16", "16 is above trainer.batch_size=8"),
    ("trainer.evaluations=4 trainer.evaluate_every=16", "cannot be combined with"),
    ("trainer.stop_at=2.5", "2.5 is neither a step nor a fraction"),
    ("trainer.stop_at=5 check=true", "is not supported together with check"),
    ("trainer.max_retries=5", "has no effect with trainer.on_collapse=warn"),
    ("trainer.precision=fp16 trainer.device=cpu", "fp16 is not supported on the CPU"),
    ("trainer.device=gpu", "'gpu' is not a device"),
    ("data=files", "data.train: is missing: a run needs training rows"),
    ("data=sample data.train=a.csv", "data.train: is not supported by data.source=sample"),
    ("data.source=hub data.sample=null", "data.hub: is missing"),
    ("data.sample=null", "data.sample: is missing"),
    (
        "data.hub=imdb",
        "data.hub: has no effect with data.source=sample. To use a Hub data",
    ),
    ("data.hub=imdb", "set data=files data.source=hub data.hub=imdb"),
    (
        "data.source=hub data.hub=imdb",
        "data.sample=sentiment (from the preset data=sample): cannot be",
    ),
    ("data.source=hub data.hub=imdb", "cannot be combined with data.source=hub. Add data=files"),
    ("data=files data.train=a data.hub=x/y", "data.hub: has no effect with data.source=files"),
    ("data=sst2 data.sample=pair", "has no effect with data.source=hub. To use a bundled data set"),
    ("data=sst2 data.sample=pair", "set data=sample data.sample=pair"),
    ("data=sst2 data.source=sample data.sample=pair", "2 problems"),
    ("data=sst2 data.source=sample data.sample=pair", "(from the preset data=sst2): cannot be"),
    ("data.subset=b", "set data=files data.source=hub data.hub=<Hub id> data.subset=b"),
    ("method=lora method.low_rank.kind=vera method.low_rank.l1=1", "by method.low_rank.kind=vera"),
    ("data.text=[]", "nor a list of at most 16 columns"),
    ("data.group=id data.task=masked_lm", "data.group: is not supported by data.task=masked_lm"),
    ("data=files data.train=a data.validation=b data.group=id", "data.group: has no effect"),
    ("data.empty_second=true", "data.empty_second: has no effect without two columns of text"),
    ("data.text=-1", "neither a column"),
    ("data.label=[a,b]", "is for data.task=multi_label"),
    ("data.task=multi_label data.label=[]", "is not a list of columns"),
    ("data.labels=positive", "'positive' is not a list of class names"),
    ("data.labels=[a,b,a]", "a class is listed twice"),
    ("data.task=regression data.labels=[a,b]", "is not supported by data.task=regression"),
    ("data=squad_v2 data.labels=[a,b]", "is not supported by data.task=question_answering"),
    ("data=squad data.no_answer_threshold=0.3", "has no effect with data.unanswerable=false"),
    ("data.stride=64", "data.stride: is not supported by data.task=classification"),
    ("data.scorer=cmrc2018", "data.scorer: is not supported by data.task=classification"),
    (
        "data=stsb loss.class_weights=balanced",
        "loss.class_weights: is not supported by data.task=regres",
    ),
    (
        "data=squad loss.label_smoothing=0.1",
        "loss.label_smoothing: is not supported by data.task=questi",
    ),
    (
        "data=sample_ner loss.focal_gamma=2",
        "loss.focal_gamma: is not supported by data.task=token_class",
    ),
    ("loss.label_smoothing=1", "loss.label_smoothing: 1.0 is out of range. It must be at least 0"),
    ("loss.focal_gamma=-0.5", "loss.focal_gamma: -0.5 is out of range. It must be at least 0"),
    ("loss.class_weights=ballanced", "loss.class_weights: invalid class weights 'ballanced'"),
    ("loss.class_weights={pos:-1}", "loss.class_weights: the weight -1 of pos is not valid"),
    ("loss.class_weights=[1,x]", "loss.class_weights: the weight 'x' of 1 is not valid"),
    ("data.labels=[neg,pos] loss.class_weights={poss:2}", "Did you mean 'pos'?"),
    ("data.labels=[neg,pos] loss.class_weights=[1,2,3]", "3 weights for 2 classes"),
    (
        "method=lora method.distill.teacher=t method.distill.weight=1 loss.focal_gamma=2",
        "loss.focal_gamma: has no effect: the loss on the labels",
    ),
    ("data=stsb calibrate=temperature", "calibrate: is not supported by data.task=regression"),
    ("calibrate=temprature", "Did you mean 'temperature'?"),
    (
        "data=sample_qa tune_threshold=true",
        "tune_threshold: is not supported by data.task=question",
    ),
    ("data.labels=[a,b,c] tune_threshold=true", "tune_threshold: is not supported with 3 classes"),
    ("model.path=null", "model.path: is missing"),
    ("model.architecture.hidden_size=8", "is not supported by model.weights=pretrained"),
    ("model.architecture=bert", "is not a group of settings"),
    ("model=tiny model.architecture.model_type=null", "model_type: is missing"),
    ("model=tiny model.tokenizer=null", "model.tokenizer: is missing"),
    ("resume=nowhere", "there is no folder nowhere"),
    ("data.name=../../esc", "data.name: '../../esc' cannot be part of a folder's name"),
    ("method.name=a/b", "method.name: 'a/b' cannot be part of a folder's name"),
    ("data.name=..", "data.name: '..' cannot be part of a folder's name"),
    ("data=files data.train=no/where.csv", "data.train=no/where.csv: there is no folder no"),
]
RIGHT = [
    "data=files data.source=hub data.hub=imdb",
    "data=files data.source=hub data.hub=imdb data.subset=b",
    "data=sample data.sample=pair",
    "method=distill method.distill.weight=0",
    "method=svd_lora method.distill.teacher=t method.distill.student_layers=[0,2,5]",
    "method=distill method.distill.teacher=t method.distill.hidden_weight=1 "
    "method.distill.layer_map=[1,3]",
    "data=files data.train=a data.unlabelled=b method=distill method.distill.teacher=t",
    "data=squad_v2 data.stride=64 data.no_answer_threshold=0.3 data.max_answer_length=5",
    "data=squad_v2 data.train=train.json data.validation=dev.json",
    "data.labels=[no,yes] tune_threshold=true calibrate=temperature loss.class_weights={yes:3}",
    "data.labels=[0,1] loss.class_weights={0:1,1:3} loss.label_smoothing=0.1 loss.focal_gamma=2",
    "data=files data.train=a data.task=multi_label tune_threshold=true loss.class_weights=balanced",
    "method=distill method.distill.teacher=t loss.class_weights=[1,2,1]",
    "method=svd_lora method.rank=8 method.initial_rank=8",
    "method=svd_lora method.low_rank.start=gaussian method.low_rank.l1=0.01",
    "method=lora method.low_rank.start=principal method.low_rank.use_dora=true",
    "method=lora method.low_rank.targets=all_linear",
    "method=prefix method.low_rank.alpha=4 method.rank=2",
    "method=prefix method.prefix.mlp=true method.prefix.mlp_hidden=64",
    "method=lora_prefix method.prefix.kind=prompt",  # the preset sets start_scale
    "method=lora method.base.train=biases",
    "method.name=mein",
    "trainer.max_steps=5 trainer.batch_size=16 trainer.micro_batch=16",
    "trainer.evaluations=4 trainer.stop_at=0.25",
    "trainer.stop_at=20",
    "trainer.on_collapse=retry trainer.max_retries=5",
    "trainer.precision=bf16 trainer.device=cpu",
    "trainer.device=cuda:1 trainer.precision=fp16",
    "data=files data.train=a.csv data.text=[0,frage] data.label=2 data.header=false",
    "data=files data.train=a.csv data.task=multi_label data.label=[a,b]",
    "data=files data.train=a.csv data.separator=; data.encoding=gb18030",
    "data=mnli data.validation=validation_mismatched",
    "model=tiny model.architecture.num_hidden_layers=3 model.architecture.new_key=1",
    "model.path=some/where model.weights=random model.architecture.num_hidden_layers=2",
]


@pytest.mark.parametrize(("words", "expected_text"), WRONG)
def test_wrong_together(run_bertft, calls, words, expected_text):
    result = run_bertft("train", *words.split())
    assert (result.status, calls["train"]) == (2, [])
    assert expected_text in result.err and "Traceback" not in result.err


def test_a_missing_file_is_reported_with_all_the_rest(run_bertft, calls, tmp_path):
    (tmp_path / "train.csv").write_text("")
    (tmp_path / "folder").mkdir()
    result = run_bertft(
        "train", "data=files", "data.train=tarin.csv", "data.test=folder", "seed=-1"
    )
    assert (result.status, calls["train"]) == (2, [])
    assert "data.train=tarin.csv: there is no such file. Did you mean 'train.csv'" in result.err
    assert "data.test=folder: the folder has no data files" in result.err
    assert result.err.startswith("error: 3 problems:")


def test_mistakes_of_losses_and_thresholds_are_reported_together(run_bertft, calls):
    result = run_bertft(
        "train", "data=stsb", "loss.class_weights={a:-1}", "loss.label_smoothing=2",
        "calibrate=temperature", "tune_threshold=true",
    )  # fmt: skip
    assert result.status == 2 and calls["train"] == []
    for expected_text in (
        "loss.label_smoothing: 2.0 is out of range", "the weight -1 of a is not valid",
        "calibrate: is not supported", "tune_threshold: is not supported",
    ):  # fmt: skip
        assert result.err.count(expected_text) == 1, result.err


@pytest.mark.parametrize("words", RIGHT)
def test_right_together(run_bertft, calls, words, tmp_path):
    for name in ("a", "b", "a.csv"):
        (tmp_path / name).write_text("")
    result = run_bertft("train", *words.split())
    assert result.status == 0, result.err
    assert len(calls["train"]) == 1


@pytest.mark.parametrize(
    ("line", "expected_text"),
    [
        ("eval run=r checkpoint=newest", "'newest' is not a checkpoint"),
        ("eval run=r precision=fp16 device=cpu", "fp16 is not supported on the CPU"),
        ("eval run=r device=tpu", "'tpu' is not a device"),
        ("eval run=r split=dev", "'dev' is not a valid value"),
        ("eval predictions=p.json", "data: is missing: it is required by predictions"),
        ("eval predictions=p.json data=sst2", "are not supported by data.task=classification"),
        ("eval run=r predictions=p.json data=squad_v2", "cannot be combined with predictions"),
        ("merge run=r out=o prefix=fold", "'fold' is not a valid value"),
        ("merge run=r out=o checkpoint=-1", "'-1' is not a checkpoint"),
        ("predict run=r columns=[]", "nor a list of at most 16 columns"),
        ("predict run=r threshold=1.5", "1.5 is out of range"),
        (
            "predict run=r input=a.csv text=x columns=y",
            "text: cannot be combined with input and columns",
        ),
    ],
)
def test_other_commands(run_bertft, calls, line, expected_text):
    result = run_bertft(*line.split())
    assert result.status == 2 and expected_text in result.err
    assert not any(calls.values())


def test_eval_of_a_file_alone_needs_no_training_file(run_bertft, calls):
    assert run_bertft("eval", "run=r", "data=files", "data.validation=v.csv").status == 0
    ((config, _),) = calls["eval"]
    assert (config.data.validation, config.data.train) == ("v.csv", None)
