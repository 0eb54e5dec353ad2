import rasengan_xl
from rasengan_xl import api


def test_every_exported_name_is_there_and_every_verb_is_exported():
    for name in rasengan_xl.__all__:
        assert getattr(rasengan_xl, name) is not None
    verbs = {"compare", "export", "generate", "prepare", "train", "verify", "write_report"}
    assert verbs == set(rasengan_xl.__all__) - {"RasenganError"}
    assert all(getattr(rasengan_xl, verb) is getattr(api, verb) for verb in verbs)


def test_a_verb_of_the_api_does_what_the_command_does(settings, tmp_path):
    recipe = tmp_path / "recipe.toml"
    chosen = settings()
    recipe.write_text(
        f'base_model = "{chosen.base_model}"\n[dataset]\nsource = "{chosen.dataset.source}"\n'
        'resolution = 32\nshapes = "square"\nheld_out_minimum = 3\n'
        "[training]\nsteps = 2\nwarmup_steps = 0\n"
    )
    prepared = rasengan_xl.prepare(str(recipe), out=tmp_path / "prepared")
    assert prepared.trained == 9
    summary = rasengan_xl.train(str(recipe), ["adapter.rank=2"], out=tmp_path / "run")
    assert summary.steps == 2
    drawn = rasengan_xl.generate(
        tmp_path / "run", ["a ninja"], out=tmp_path / "pictures", sampler_steps=2
    )
    assert [each.subject for each in drawn.pictures] == ["base", "run"]
    assert all(file.exists() for file in drawn.sheets)
    assert rasengan_xl.verify(tmp_path / "run").passed
