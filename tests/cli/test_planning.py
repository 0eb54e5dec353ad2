from rasengan_xl.cli import planning
from rasengan_xl.cli.planning import show_differences
from rasengan_xl.config.comparison import load_comparison


def test_in_80_columns_no_arm_and_no_setting_is_cut(capsys, monkeypatch):
    monkeypatch.setattr(planning.console, "width", 80)
    settings = load_comparison("mini", ())
    capsys.readouterr()
    show_differences(settings)
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "aggressive" in shown
