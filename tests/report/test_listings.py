from rasengan_xl.report.listings import list_everything

from .sample import build_arm, build_comparison, build_run, build_summary


def test_how_each_run_was_computed_is_in_the_table_of_runs():
    engine = {"implementation": "fused", "memory": "keep-all", "cuda_graph": False}
    run = build_run("lora", 0, summary=build_summary("lora", 0, engine=engine))
    comparison = build_comparison(build_arm("lora", [run]))
    table = next(table for table in list_everything(comparison) if table.name == "runs")
    assert [row[table.columns.index("engine")] for row in table.rows] == [
        "fused, keep-all; without cuda_graph"
    ]
